-- What each run was charged, what became of each event, and where the sinks stand.

CREATE TABLE IF NOT EXISTS charges ${on_cluster}
(
    event_offset Int64 COMMENT 'Offset of the run\'s event in the events topic',
    event_time DateTime64(6, 'UTC') COMMENT 'Event time of the run, UTC',
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
    late Int64 DEFAULT -1 COMMENT '-1 in rows of events that were on time; else the journal offset of the record that counted late ones',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(event_time)
ORDER BY (team_id, event_time, events_topic_id, generation, partition, event_offset)
TTL log_time + INTERVAL 400 DAY
COMMENT 'What each counted run was charged, by component, and by which rate card.';

CREATE TABLE IF NOT EXISTS sessions ${on_cluster}
(
    team_id LowCardinality(String) COMMENT 'Team',
    session_id String COMMENT 'Session',
    user_id String COMMENT 'User; empty where none was named',
    agent_id LowCardinality(String) COMMENT 'Agent; empty where none was named',
    project_id LowCardinality(String) COMMENT 'Project; empty where none was named',
    product LowCardinality(String) COMMENT 'Product; empty where none was named',
    application LowCardinality(String) COMMENT 'Application that runs in the session',
    machine_size LowCardinality(String) COMMENT 'Size of its machine; empty where none was named',
    release LowCardinality(String) COMMENT 'Release of the application; empty where none was named',
    status LowCardinality(String) COMMENT 'active, completed, failed or cancelled',
    started_at DateTime64(6, 'UTC') COMMENT 'When it started; its first sign if no start was seen',
    last_seen_at DateTime64(6, 'UTC') COMMENT 'Its last sign of life',
    heartbeats Int64 COMMENT 'Heartbeats counted',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the row was decided, by the broker\'s log',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (team_id, session_id)
COMMENT 'Sessions as they stand: applications and machines that are or were up.';

CREATE TABLE IF NOT EXISTS ledger ${on_cluster}
(
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    journal_offset Int64 COMMENT 'Offset of the record in the journal topic',
    journal_prev Int64 COMMENT 'Journal offset of the valid record before it, -1 where there is none',
    kind LowCardinality(String) COMMENT 'genesis or step',
    events_from Int64 COMMENT 'First event offset that the record decides',
    events_to Int64 COMMENT 'One past the last event offset that it decides',
    counted Int64 COMMENT 'Offsets that were counted',
    duplicate Int64 COMMENT 'Offsets that repeat an event which was counted before',
    conflict Int64 COMMENT 'Offsets with the identity of a counted event and other content',
    rejected Int64 COMMENT 'Offsets that were rejected; rejected_reasons says why',
    too_late Int64 COMMENT 'Offsets of events older than the deduplication horizon',
    gap Int64 COMMENT 'Offsets without a record: transaction markers and aborted records',
    unread Int64 COMMENT 'Offsets that retention removed before they were read: a loss',
    rejected_reasons Map(LowCardinality(String), Int64) COMMENT 'Rejected offsets by reason',
    charged_runs Int64 COMMENT 'Rows that the record added to charges',
    charged_micro Int64 COMMENT 'Credits that it charged, in millionths',
    clock DateTime64(6, 'UTC') COMMENT 'Clock of the partition after the record',
    log_time DateTime64(6, 'UTC') COMMENT 'When the broker stored the journal record',
    stored_at DateTime64(6, 'UTC') COMMENT 'When the sink wrote this row, by its own clock',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (events_topic_id, generation, partition, journal_offset)
COMMENT 'The loss ledger: one row for each journal record but idle ones. It says what became of every event offset.';

CREATE TABLE IF NOT EXISTS quarantine ${on_cluster}
(
    target LowCardinality(String) COMMENT 'Table that refused the row',
    events_topic_id UUID COMMENT 'Topic id of the events topic that the row was counted from',
    generation UInt32 COMMENT 'Generation of the journal; a new one adds rows and replaces none',
    partition UInt16 COMMENT 'Partition of the events topic',
    late Int64 DEFAULT -1 COMMENT 'late of the row, -1 where it was on time or has none',
    window_start DateTime('UTC') COMMENT 'Window of the row, 1970 where it has none',
    row_hash UInt64 COMMENT 'Hash of the row, to tell refused rows of one record apart',
    row_json String COMMENT 'The row as JSON',
    error String COMMENT 'What ClickHouse said',
    quarantined_at DateTime64(6, 'UTC') COMMENT 'When it was refused, by the sink\'s clock',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (target, events_topic_id, generation, partition, row_hash)
COMMENT 'Rows that ClickHouse refused. A quarantined minute holds the watermark until it is mended and its row here deleted.';

CREATE TABLE IF NOT EXISTS positions ${on_cluster}
(
    feed LowCardinality(String) COMMENT 'cells, history or catalog',
    partition UInt16 COMMENT 'Partition of the events topic',
    next_offset Int64 COMMENT 'Next offset to read',
    prev Int64 COMMENT 'Journal offset of the last valid record before it',
    generation UInt32 COMMENT 'Generation of that record',
    events_position Int64 COMMENT 'Next event offset after that record',
    clock DateTime64(6, 'UTC') COMMENT 'Clock of the partition after that record',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the sink wrote the row, by its own clock',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (feed, partition)
COMMENT 'Where each sink feed stands in each journal partition: its link into the chain, as of the rows that are here.';
