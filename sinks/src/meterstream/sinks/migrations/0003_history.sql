-- Single runs, as they were published, with what each was charged.

CREATE TABLE IF NOT EXISTS runs ${on_cluster}
(
    event_offset Int64 COMMENT 'Offset of the event in the events topic',
    event_time DateTime64(6, 'UTC') COMMENT 'Event time, UTC',
    event_type LowCardinality(String) COMMENT 'started or completed',
    event_missing UInt8 COMMENT '1 where the event was gone from the topic, or damaged, and the row was written from its charge alone',
    source LowCardinality(String) COMMENT 'CloudEvents source',
    event_id String COMMENT 'CloudEvents id',
    team_id LowCardinality(String) COMMENT 'Team that is charged',
    run_id String COMMENT 'Run; empty where the event is missing',
    operation LowCardinality(String) COMMENT 'agent_run, api_call or feature',
    user_id String COMMENT 'User who ran it; empty where none was named',
    agent_id LowCardinality(String) COMMENT 'Agent that ran; empty where none was named',
    project_id LowCardinality(String) COMMENT 'Project; empty where none was named',
    feature_id LowCardinality(String) COMMENT 'Feature that was used; empty where none was named',
    product LowCardinality(String) COMMENT 'Product it ran in; empty where none was named',
    session_id String COMMENT 'Session; empty where none was named',
    model LowCardinality(String) COMMENT 'Model that was called; empty where none was named',
    provider LowCardinality(String) COMMENT 'Provider of the model; empty where none was named',
    caller LowCardinality(String) COMMENT 'ui, api or schedule; empty where none was named',
    status LowCardinality(String) COMMENT 'completed, failed or cancelled; empty while started',
    started_at DateTime64(6, 'UTC') COMMENT 'When the run began',
    ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it ended',
    input_tokens Int64 COMMENT 'Input tokens, cached ones included',
    output_tokens Int64 COMMENT 'Output tokens, reasoning ones included',
    cached_tokens Int64 COMMENT 'Input tokens that were read from a cache',
    reasoning_tokens Int64 COMMENT 'Output tokens that were spent on reasoning',
    latency_us Nullable(Int64) COMMENT 'Latency, microseconds',
    first_token_us Nullable(Int64) COMMENT 'Time to first token, microseconds',
    request_bytes Int64 COMMENT 'Bytes of the request',
    response_bytes Int64 COMMENT 'Bytes of the response',
    error_code LowCardinality(String) COMMENT 'Error code; empty where there is none',
    error_message String COMMENT 'Error message; empty where there is none',
    input String COMMENT 'Input text; empty unless the service sends it',
    output String COMMENT 'Output text; empty unless the service sends it',
    tags Map(String, String) COMMENT 'Tags',
    quantities Map(String, Int64) COMMENT 'Named quantities',
    card LowCardinality(String) COMMENT 'Rate card as name@version; explicit; or unpriced',
    credits_micro Int64 COMMENT 'Credits charged: the sum of the components, in millionths',
    run_micro Int64 COMMENT 'Credits for the run itself, in millionths',
    input_micro Int64 COMMENT 'Credits for input tokens that were not cached',
    output_micro Int64 COMMENT 'Credits for output tokens that were not reasoning',
    cached_micro Int64 COMMENT 'Credits for cached input tokens',
    reasoning_micro Int64 COMMENT 'Credits for reasoning tokens',
    bytes_micro Int64 COMMENT 'Credits for request and response bytes',
    explicit_micro Int64 COMMENT 'Credits that the event itself named',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(event_time)
ORDER BY (team_id, event_time, events_topic_id, generation, partition, event_offset)
TTL log_time + INTERVAL 90 DAY
COMMENT 'Every counted run event, with the charge of completed ones.';

CREATE TABLE IF NOT EXISTS agent_sessions_daily ${on_cluster}
(
    day Date COMMENT 'Day of event time, UTC',
    team_id LowCardinality(String) COMMENT 'Team',
    agent_id LowCardinality(String) COMMENT 'Agent; empty where none was named',
    session_id String COMMENT 'Session',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYear(day)
ORDER BY (team_id, day, agent_id, session_id)
COMMENT 'Distinct sessions by agent and day (UTC): they do not add up over cells. Count rows with FINAL.';
