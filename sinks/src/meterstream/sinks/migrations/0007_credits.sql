-- Corrections of usage, and the accounts: what teams were granted, what they drew, what is left.

CREATE TABLE IF NOT EXISTS corrections ${on_cluster}
(
    control_offset Int64 COMMENT 'Offset of the correction in the control topic',
    event_time DateTime64(6, 'UTC') COMMENT 'Event time of the run that is put right, UTC',
    number Int64 COMMENT 'Number of the adjustment; 0 for a void',
    original_source LowCardinality(String) COMMENT 'CloudEvents source of the run\'s event',
    original_id String COMMENT 'CloudEvents id of the run\'s event',
    run_id String COMMENT 'Run that is put right',
    session_id String COMMENT 'Session of the run; empty where none was named',
    card LowCardinality(String) COMMENT 'What the run was priced by: a rate card, explicit or unpriced',
    runs Int64 COMMENT 'Completed runs, whatever their status',
    errors Int64 COMMENT 'Runs whose status is failed',
    unpriced_runs Int64 COMMENT 'Runs, and spans of session time, that no rate card priced yet',
    input_tokens Int64 COMMENT 'Input tokens, cached ones included',
    output_tokens Int64 COMMENT 'Output tokens, reasoning ones included',
    cached_tokens Int64 COMMENT 'Input tokens that were read from a cache',
    reasoning_tokens Int64 COMMENT 'Output tokens that were spent on reasoning',
    credits_micro Int64 COMMENT 'Credits charged, in millionths',
    duration_us Int64 COMMENT 'Sum of run durations (end less start), microseconds',
    request_bytes Int64 COMMENT 'Bytes of requests',
    response_bytes Int64 COMMENT 'Bytes of responses',
    latency_us Int64 COMMENT 'Sum of latencies, microseconds',
    first_token_us Int64 COMMENT 'Sum of times to first token, microseconds',
    session_us Int64 COMMENT 'Session time by the broker\'s clock, microseconds',
    amount_micro Int64 COMMENT 'Price in the rate card\'s currency, in millionths of it',
    cost_micro Int64 COMMENT 'Cost of the provider in that currency, in millionths of it',
    reason String COMMENT 'Why; empty where nobody said',
    window_start DateTime('UTC') COMMENT 'Start of the window of event time, UTC',
    team_id LowCardinality(String) COMMENT 'Team that is charged',
    user_id String COMMENT 'User who ran it; empty where none was named',
    project_id LowCardinality(String) COMMENT 'Project; empty where none was named',
    agent_id LowCardinality(String) COMMENT 'Agent that ran; empty where none was named',
    model LowCardinality(String) COMMENT 'Model that was called; empty where none was named',
    provider LowCardinality(String) COMMENT 'Provider of the model; empty where none was named',
    feature_id LowCardinality(String) COMMENT 'Feature that was used; empty where none was named',
    product LowCardinality(String) COMMENT 'Product it ran in; empty where none was named',
    operation LowCardinality(String) COMMENT 'agent_run, api_call or feature; session for session time',
    late Int64 DEFAULT -1 COMMENT 'Journal offset of the record that took it: its amounts stand in late rows',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(event_time)
ORDER BY (team_id, run_id, events_topic_id, generation, partition, control_offset)
TTL log_time + INTERVAL 400 DAY
COMMENT 'What corrections added to the usage of single runs, signed: a void takes all of it away.';

CREATE TABLE IF NOT EXISTS accounts ${on_cluster}
(
    team_id LowCardinality(String) COMMENT 'Team',
    balance_micro Int64 COMMENT 'What is left of its grants less what is overdrawn',
    left_micro Int64 COMMENT 'What is left of its grants, in millionths of a credit',
    overdrawn_micro Int64 COMMENT 'What was drawn and no grant has paid yet',
    overdraft_micro Int64 COMMENT 'How far the balance may fall below zero, by the plan',
    granted_micro Int64 COMMENT 'All that was ever granted, rollovers and refunds included',
    drawn_micro Int64 COMMENT 'All that was ever drawn for charges, less what was given back',
    expired_micro Int64 COMMENT 'All that ever expired',
    rolled_over_micro Int64 COMMENT 'All that ever left a grant to be carried over',
    is_exhausted UInt8 COMMENT '1 where nothing more should be admitted, else 0',
    plan_id LowCardinality(String) COMMENT 'Plan in force; empty where there is none',
    plan_version Int64 COMMENT 'Its version; 0 where there is none',
    period_start DateTime64(6, 'UTC') COMMENT 'Start of the plan\'s period, UTC; 1970 for none',
    period_end DateTime64(6, 'UTC') COMMENT 'End of the period, not included, UTC; 2299 for none',
    since DateTime64(6, 'UTC') COMMENT 'What was charged since then is drawn; 2299 if it is to begin',
    refilled_at DateTime64(6, 'UTC') COMMENT 'When something was granted last, UTC',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (team_id)
COMMENT 'The account of each team as it stands: granted + overdrawn = drawn + expired + rolled over + left.';

CREATE TABLE IF NOT EXISTS grants ${on_cluster}
(
    team_id LowCardinality(String) COMMENT 'Team',
    grant_id String COMMENT 'Grant, within the team; allowance/, rollover/, refund/ by the meter',
    kind LowCardinality(String) COMMENT 'funded, reward, promotional, top_up or refund',
    status LowCardinality(String) COMMENT 'waiting for its start, open, or closed',
    priority Int64 COMMENT 'Lower ones are drawn first, then those that expire first',
    number Int64 COMMENT 'Its place in the order of granting',
    amount_micro Int64 COMMENT 'What was granted, in millionths of a credit',
    left_micro Int64 COMMENT 'What is left of it; 0 once it is closed',
    expired_micro Int64 COMMENT 'What of it expired',
    rolled_over_micro Int64 COMMENT 'What of it was carried over into another grant',
    starts_at DateTime64(6, 'UTC') COMMENT 'From when on it is drawn, UTC',
    expires_at DateTime64(6, 'UTC') COMMENT 'Until when it is drawn, UTC; 2299 for good',
    is_allowance UInt8 COMMENT '1 where it is what a plan gives for a period, else 0',
    is_told UInt8 COMMENT '1 where it was told, or time to tell, that it will expire, else 0',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (team_id, grant_id)
COMMENT 'Every grant as it stands: what was granted, and what is left of it.';

CREATE TABLE IF NOT EXISTS draws ${on_cluster}
(
    event_offset Int64 COMMENT 'Offset of the event that is charged; -1 where it is no event\'s charge',
    control_offset Int64 COMMENT 'Offset of the correction in the control topic; -1 where it is none',
    team_id LowCardinality(String) COMMENT 'Team',
    grant_id String COMMENT 'Grant that was drawn; empty where none was',
    kind LowCardinality(String) COMMENT 'Kind of the grant; overdraft, or expired where it is gone',
    amount_micro Int64 COMMENT 'Credits drawn, in millionths; below 0 given back',
    journal_offset Int64 COMMENT 'Offset of its record in the journal topic',
    number Int64 COMMENT 'Which of the draws of its record, in their order',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(log_time)
ORDER BY (team_id, events_topic_id, generation, partition, journal_offset, number)
TTL log_time + INTERVAL 400 DAY
COMMENT 'Which grants paid how much of each charge and correction. The draws of a charge add up to its credits.';
