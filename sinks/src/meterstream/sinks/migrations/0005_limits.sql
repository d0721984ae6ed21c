-- Where limits stand, and what happened to them.

CREATE TABLE IF NOT EXISTS limit_states ${on_cluster}
(
    team_id LowCardinality(String) COMMENT 'Team',
    limit_id String COMMENT 'Limit, within the team',
    limit_version Int64 COMMENT 'Version of the limit',
    subject LowCardinality(String) COMMENT 'team, user, agent, project or feature',
    subject_id String COMMENT 'Which user, agent, project or feature; empty for the team',
    measure LowCardinality(String) COMMENT 'credits, tokens, runs, api_calls or sessions',
    window LowCardinality(String) COMMENT 'day or month, in the team\'s zone; balance: what is left of its credits',
    window_start DateTime64(6, 'UTC') COMMENT 'Start of the window, UTC',
    window_end DateTime64(6, 'UTC') COMMENT 'End of the window, not included, UTC; the year 2200 or later where it has none',
    amount Int64 COMMENT 'The limit, in the measure\'s unit; credits in millionths',
    enforcement LowCardinality(String) COMMENT 'hard: it blocks at its amount; soft: it tells',
    used Int64 COMMENT 'What was used in the window, in the measure\'s unit',
    reached_permille Int64 COMMENT 'Highest level reached in it, thousandths of the amount; 0 for none',
    blocked UInt8 COMMENT '1 where nothing more should be admitted, else 0',
    removed UInt8 COMMENT '1 where the limit was removed and holds no longer, else 0',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (team_id, limit_id, window_start)
TTL log_time + INTERVAL 400 DAY
COMMENT 'Where each limit stood at the end of each of its windows, or stands now. Ask the view limits for those that hold now.';

CREATE TABLE IF NOT EXISTS thresholds ${on_cluster}
(
    told_at DateTime64(6, 'UTC') COMMENT 'When the broker stored the journal record that told it',
    kind LowCardinality(String) COMMENT 'reached: a level; blocked, reset: a hard limit began or ceased to block; low, exhausted, expiring: of a balance',
    team_id LowCardinality(String) COMMENT 'Team',
    limit_id String COMMENT 'Limit, within the team; empty where it is of no limit',
    limit_version Int64 COMMENT 'Version of the limit; 0 where it is of none',
    subject LowCardinality(String) COMMENT 'team, user, agent, project or feature',
    subject_id String COMMENT 'Which user, agent, project or feature; empty for the team',
    measure LowCardinality(String) COMMENT 'credits, tokens, runs, api_calls or sessions',
    window LowCardinality(String) COMMENT 'day or month, in the team\'s zone; or balance',
    window_start DateTime64(6, 'UTC') COMMENT 'Start of the window, UTC; 1970 where it has none',
    level_permille Int64 COMMENT 'Level that was reached, thousandths of the amount; 0 where it is no level',
    amount Int64 COMMENT 'The limit, in the measure\'s unit; credits in millionths. Of exhausted: the overdraft that the plan allows',
    used Int64 COMMENT 'The total with the event that made the difference, in the measure\'s unit',
    balance_micro Int64 COMMENT 'Of low and exhausted: what was left of the team\'s credits, in millionths; below 0 where it is overdrawn',
    reason LowCardinality(String) COMMENT 'Of reset: window, changed, removed, corrected or credited',
    grant_id String COMMENT 'Of expiring: the grant',
    left_micro Int64 COMMENT 'Of expiring: what is left of the grant, in millionths',
    expires_at DateTime64(6, 'UTC') COMMENT 'Of expiring: when; else 1970',
    cause_offset Int64 COMMENT 'Offset of the event that made the difference; -1 where none did',
    cause_source String COMMENT 'Source of that event',
    cause_id String COMMENT 'Id of that event, within team and source',
    number UInt32 COMMENT 'Which one of its journal record, in the order of their events',
    journal_offset Int64 COMMENT 'Offset of that record in the journal topic',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(told_at)
ORDER BY (team_id, told_at, events_topic_id, generation, partition, journal_offset, number)
TTL log_time + INTERVAL 400 DAY
COMMENT 'Everything that was told of limits and balances, as the topic thresholds has it.';
