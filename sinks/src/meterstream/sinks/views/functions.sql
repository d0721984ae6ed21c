-- Functions for analysts. They belong to the server, not to a database.

CREATE OR REPLACE FUNCTION sketchQuantile ${on_cluster} AS (sketch, level) -> arrayMap(
    counts -> arrayMap(
        (counts, cumulated) -> if(
            empty(counts),
            NULL,
            ${representative}[1 + counts[arrayFirstIndex(
                seen -> seen >= greatest(
                    1, intDiv(cumulated[-1] * toInt64(round(level * 1000000)) + 999999, 1000000)
                ),
                cumulated
            )].1]
        ),
        [counts],
        [arrayCumSum(entry -> entry.2, counts)]
    )[1],
    [arraySort(
        entry -> entry.1,
        arrayFilter(entry -> entry.2 > 0, arrayZip(mapKeys(sketch), mapValues(sketch)))
    )]
)[1];

CREATE OR REPLACE FUNCTION usageWindowStart ${on_cluster} AS (moment, size, zone) -> multiIf(
    size = '1m', toStartOfMinute(toTimeZone(moment, zone)),
    size = '15m', toStartOfFifteenMinutes(toTimeZone(moment, zone)),
    size = '1h', toStartOfHour(toTimeZone(moment, zone)),
    size = '1d', toStartOfDay(toTimeZone(moment, zone)),
    toDateTime(toStartOfMonth(toTimeZone(moment, zone)), zone)
);

CREATE OR REPLACE FUNCTION usageWindowEnd ${on_cluster} AS (window_start, size) -> multiIf(
    size = '1m', addMinutes(window_start, 1),
    size = '15m', addMinutes(window_start, 15),
    size = '1h', addHours(window_start, 1),
    size = '1d', addDays(window_start, 1),
    addMonths(window_start, 1)
);

CREATE OR REPLACE FUNCTION usageRangeStart ${on_cluster} AS (since, size, zone) -> usageWindowStart(
    parseDateTimeBestEffort(if(since = '', '1970-01-02 00:00:00', since), zone), size, zone
);

CREATE OR REPLACE FUNCTION usageRangeEnd ${on_cluster} AS (until, size, zone) -> usageWindowEnd(
    usageWindowStart(
        subtractSeconds(
            parseDateTimeBestEffort(if(until = '', '2105-01-01 00:00:00', until), zone), 1
        ),
        size,
        zone
    ),
    size
);
