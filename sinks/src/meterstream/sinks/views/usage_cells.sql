-- Cells by window of event time in any zone, each taken from the coarsest grain that may serve it.
--
-- A partition's rows come from days and quarters as far as its watermark says that they are
-- complete, and from minutes after it; without a watermark, from minutes alone. A day (UTC) serves
-- a window only if it lies within it as a whole, which depends on the zone; else quarters do.
-- The first conditions of each branch let ClickHouse skip parts; the last ones decide.

CREATE OR REPLACE VIEW usage_cells ${on_cluster} AS
SELECT
    usageWindowStart(cells.cell_start, {window:String}, {zone:String}) AS window_start,
    ${columns}
FROM
(
    SELECT days.window_start AS cell_start, ${columns}
    FROM usage_days AS days FINAL
    LEFT JOIN (SELECT * FROM watermarks FINAL) AS reached
        ON days.events_topic_id = reached.events_topic_id
        AND days.generation = reached.generation
        AND days.partition = reached.partition
    WHERE {window:String} IN ('1d', '1mo')
        AND days.window_start >= usageRangeStart({since:String}, {window:String}, {zone:String})
        AND days.window_start < usageRangeEnd({until:String}, {window:String}, {zone:String})
        AND days.window_start < ifNull(reached.day_closed_until, toDateTime(0, 'UTC'))
        AND usageWindowStart(days.window_start, {window:String}, {zone:String})
            = usageWindowStart(addSeconds(days.window_start, 86399), {window:String}, {zone:String})
    UNION ALL
    SELECT quarters.window_start AS cell_start, ${columns}
    FROM usage_quarters AS quarters FINAL
    LEFT JOIN (SELECT * FROM watermarks FINAL) AS reached
        ON quarters.events_topic_id = reached.events_topic_id
        AND quarters.generation = reached.generation
        AND quarters.partition = reached.partition
    WHERE {window:String} != '1m'
        AND quarters.window_start >= usageRangeStart({since:String}, {window:String}, {zone:String})
        AND quarters.window_start < usageRangeEnd({until:String}, {window:String}, {zone:String})
        AND (
            {window:String} IN ('15m', '1h')
            OR toDate(quarters.window_start) IN (
                SELECT day FROM (
                    SELECT arrayJoin(range(
                        toUInt32(toDate(
                            usageRangeStart({since:String}, {window:String}, {zone:String}), 'UTC'
                        )),
                        toUInt32(toDate(
                            usageRangeEnd({until:String}, {window:String}, {zone:String}), 'UTC'
                        )) + 1
                    )) AS number, toDate(number) AS day, toDateTime(number * 86400, 'UTC') AS midnight
                )
                WHERE usageWindowStart(midnight, {window:String}, {zone:String})
                    != usageWindowStart(addSeconds(midnight, 86399), {window:String}, {zone:String})
            )
            OR quarters.window_start >= (SELECT min(day_closed_until) FROM watermarks FINAL)
        )
        AND quarters.window_start < ifNull(reached.quarter_closed_until, toDateTime(0, 'UTC'))
        AND (
            {window:String} IN ('15m', '1h')
            OR usageWindowStart(
                toStartOfDay(quarters.window_start), {window:String}, {zone:String}
            ) != usageWindowStart(
                addSeconds(toStartOfDay(quarters.window_start), 86399), {window:String}, {zone:String}
            )
            OR quarters.window_start >= ifNull(reached.day_closed_until, toDateTime(0, 'UTC'))
        )
    UNION ALL
    SELECT minutes.window_start AS cell_start, ${columns}
    FROM usage_minutes AS minutes FINAL
    LEFT JOIN (SELECT * FROM watermarks FINAL) AS reached
        ON minutes.events_topic_id = reached.events_topic_id
        AND minutes.generation = reached.generation
        AND minutes.partition = reached.partition
    WHERE minutes.window_start >= usageRangeStart({since:String}, {window:String}, {zone:String})
        AND minutes.window_start < usageRangeEnd({until:String}, {window:String}, {zone:String})
        AND (
            {window:String} = '1m'
            OR minutes.window_start >= (SELECT min(quarter_closed_until) FROM watermarks FINAL)
        )
        AND (
            {window:String} = '1m'
            OR minutes.window_start >= ifNull(reached.quarter_closed_until, toDateTime(0, 'UTC'))
        )
) AS cells
WHERE (
    SELECT throwIf(
        {window:String} NOT IN ('1m', '15m', '1h', '1d', '1mo'),
        'window is one of 1m, 15m, 1h, 1d, 1mo'
    )
) = 0
AND (
    -- Where rows that are needed have gone by their TTL, say so rather than show too little.
    SELECT throwIf(count() > 0, 'minutes are kept for 40 days: ask for 15m or more, or a later time')
    FROM usage_days AS days
    WHERE {window:String} = '1m'
        AND addDays(days.window_start, 1)
            > usageRangeStart({since:String}, {window:String}, {zone:String})
        AND days.window_start < usageRangeEnd({until:String}, {window:String}, {zone:String})
        AND days.log_time < now() - INTERVAL 38 DAY
) = 0
AND (
    SELECT throwIf(
        count() > 0,
        'quarters of an hour are kept for 400 days: ask for days or months in UTC, or a later time'
    )
    FROM usage_days AS days
    WHERE {window:String} != '1m'
        AND addDays(days.window_start, 1)
            > usageRangeStart({since:String}, {window:String}, {zone:String})
        AND days.window_start < usageRangeEnd({until:String}, {window:String}, {zone:String})
        AND days.log_time < now() - INTERVAL 398 DAY
        AND usageWindowStart(days.window_start, {window:String}, {zone:String})
            != usageWindowStart(addSeconds(days.window_start, 86399), {window:String}, {zone:String})
) = 0;
