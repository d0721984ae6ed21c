-- Limits as they stand. Of a balance there is a row since each time it was filled up, and none ends.

CREATE OR REPLACE VIEW limits ${on_cluster}
(
    team_id String COMMENT 'Team; empty where the limit is of an organisation',
    organisation_id String COMMENT 'Organisation; empty where the limit is of a team',
    limit_id String COMMENT 'Limit, within the team or organisation',
    limit_version Int64 COMMENT 'Version of the limit',
    subject String COMMENT 'team, user, agent, project, feature or organisation',
    subject_id String COMMENT 'Which user, agent, project or feature; empty for the others',
    measure String COMMENT 'credits, tokens, runs, api_calls or sessions',
    window String COMMENT 'day or month, in the zone of the team or organisation; balance: what is left of the team\'s credits',
    window_start DateTime64(6, 'UTC') COMMENT 'Start of the window that holds now, UTC',
    window_end DateTime64(6, 'UTC') COMMENT 'End of it, not included, UTC; the year 2200 where it has none',
    amount Int64 COMMENT 'The limit, in the measure\'s unit; credits in millionths',
    used Int64 COMMENT 'What was used in the window, in the measure\'s unit',
    left Int64 COMMENT 'What is left of the amount; below 0 where more was used',
    reached_permille Int64 COMMENT 'Highest level reached in it, thousandths of the amount; 0 for none',
    enforcement String COMMENT 'hard: it blocks at its amount; soft: it tells',
    blocked UInt8 COMMENT '1 where nothing more should be admitted, else 0',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when it was told last, by the broker\'s log'
)
AS SELECT
    team_id,
    organisation_id,
    limit_id,
    limit_version,
    subject,
    subject_id,
    measure,
    window,
    window_start,
    window_end,
    amount,
    used,
    amount - used AS left,
    reached_permille,
    enforcement,
    blocked,
    log_time
FROM
(
    SELECT *
    FROM limit_states FINAL
    WHERE window_start <= now64(6, 'UTC') AND window_end > now64(6, 'UTC')
    ORDER BY version DESC, removed
    LIMIT 1 BY team_id, organisation_id, limit_id
)
WHERE removed = 0
COMMENT 'Limits of teams and organisations that hold now, and where each stands in its running window.';
