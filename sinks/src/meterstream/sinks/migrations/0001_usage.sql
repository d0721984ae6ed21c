-- Usage by window of event time: the cells of the meter, and how far the coarse grains reach.

CREATE TABLE IF NOT EXISTS usage_minutes ${on_cluster}
(
    window_start DateTime('UTC') COMMENT 'Start of the window of event time, UTC',
    team_id LowCardinality(String) COMMENT 'Team that is charged',
    user_id String COMMENT 'User who ran it; empty where none was named',
    project_id LowCardinality(String) COMMENT 'Project; empty where none was named',
    agent_id LowCardinality(String) COMMENT 'Agent that ran; empty where none was named',
    model LowCardinality(String) COMMENT 'Model that was called; empty where none was named',
    provider LowCardinality(String) COMMENT 'Provider of the model; empty where none was named',
    feature_id LowCardinality(String) COMMENT 'Feature that was used; empty where none was named',
    product LowCardinality(String) COMMENT 'Product it ran in; empty where none was named',
    operation LowCardinality(String) COMMENT 'agent_run, api_call or feature',
    runs Int64 COMMENT 'Completed runs, whatever their status',
    errors Int64 COMMENT 'Runs whose status is failed',
    unpriced_runs Int64 COMMENT 'Runs that no rate card priced: counted, charged nothing yet',
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
    latency_sketch Map(Int16, Int64) COMMENT 'Latencies: count by bucket',
    first_token_sketch Map(Int16, Int64) COMMENT 'Times to first token: count by bucket',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    late Int64 DEFAULT -1 COMMENT '-1 in rows of events that were on time; else the journal offset of the record that counted late ones',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(window_start)
PRIMARY KEY (team_id, window_start)
ORDER BY (team_id, window_start, agent_id, user_id, project_id, model, provider, feature_id, product, operation, events_topic_id, generation, partition, late)
TTL log_time + INTERVAL 40 DAY
COMMENT 'Usage by minute and every dimension, as the meter counts it. For sums in any window use the view usage_cells.';

CREATE TABLE IF NOT EXISTS usage_quarters ${on_cluster}
(
    window_start DateTime('UTC') COMMENT 'Start of the window of event time, UTC',
    team_id LowCardinality(String) COMMENT 'Team that is charged',
    user_id String COMMENT 'User who ran it; empty where none was named',
    project_id LowCardinality(String) COMMENT 'Project; empty where none was named',
    agent_id LowCardinality(String) COMMENT 'Agent that ran; empty where none was named',
    model LowCardinality(String) COMMENT 'Model that was called; empty where none was named',
    provider LowCardinality(String) COMMENT 'Provider of the model; empty where none was named',
    feature_id LowCardinality(String) COMMENT 'Feature that was used; empty where none was named',
    product LowCardinality(String) COMMENT 'Product it ran in; empty where none was named',
    operation LowCardinality(String) COMMENT 'agent_run, api_call or feature',
    runs Int64 COMMENT 'Completed runs, whatever their status',
    errors Int64 COMMENT 'Runs whose status is failed',
    unpriced_runs Int64 COMMENT 'Runs that no rate card priced: counted, charged nothing yet',
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
    latency_sketch Map(Int16, Int64) COMMENT 'Latencies: count by bucket',
    first_token_sketch Map(Int16, Int64) COMMENT 'Times to first token: count by bucket',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    late Int64 DEFAULT -1 COMMENT '-1 in rows of events that were on time; else the journal offset of the record that counted late ones',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
PRIMARY KEY (team_id, window_start)
ORDER BY (team_id, window_start, agent_id, user_id, project_id, model, provider, feature_id, product, operation, events_topic_id, generation, partition, late)
TTL log_time + INTERVAL 400 DAY
COMMENT 'Usage by quarter of an hour, once the quarter has closed. For sums in any window use the view usage_cells.';

CREATE TABLE IF NOT EXISTS usage_days ${on_cluster}
(
    window_start DateTime('UTC') COMMENT 'Start of the window of event time, UTC',
    team_id LowCardinality(String) COMMENT 'Team that is charged',
    user_id String COMMENT 'User who ran it; empty where none was named',
    project_id LowCardinality(String) COMMENT 'Project; empty where none was named',
    agent_id LowCardinality(String) COMMENT 'Agent that ran; empty where none was named',
    model LowCardinality(String) COMMENT 'Model that was called; empty where none was named',
    provider LowCardinality(String) COMMENT 'Provider of the model; empty where none was named',
    feature_id LowCardinality(String) COMMENT 'Feature that was used; empty where none was named',
    product LowCardinality(String) COMMENT 'Product it ran in; empty where none was named',
    operation LowCardinality(String) COMMENT 'agent_run, api_call or feature',
    runs Int64 COMMENT 'Completed runs, whatever their status',
    errors Int64 COMMENT 'Runs whose status is failed',
    unpriced_runs Int64 COMMENT 'Runs that no rate card priced: counted, charged nothing yet',
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
    latency_sketch Map(Int16, Int64) COMMENT 'Latencies: count by bucket',
    first_token_sketch Map(Int16, Int64) COMMENT 'Times to first token: count by bucket',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    late Int64 DEFAULT -1 COMMENT '-1 in rows of events that were on time; else the journal offset of the record that counted late ones',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYear(window_start)
PRIMARY KEY (team_id, window_start)
ORDER BY (team_id, window_start, agent_id, user_id, project_id, model, provider, feature_id, product, operation, events_topic_id, generation, partition, late)
COMMENT 'Usage by day (UTC), once the day has closed; kept for ever. For sums in any window use the view usage_cells.';

CREATE TABLE IF NOT EXISTS watermarks ${on_cluster}
(
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    clock DateTime64(6, 'UTC') COMMENT 'Clock of the partition when these windows closed: the running maximum of the broker\'s log times; 1970 before the first did',
    quarter_closed_until DateTime('UTC') COMMENT 'Quarters of an hour that start before this are in usage_quarters',
    day_closed_until DateTime('UTC') COMMENT 'Days that start before this are in usage_days',
    journal_position Int64 COMMENT 'Next journal offset to read when these windows closed',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the sink wrote the row, by its own clock',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (events_topic_id, generation, partition)
COMMENT 'How far each partition is: windows before closed_until are read from coarse rows, later ones from minutes.';
