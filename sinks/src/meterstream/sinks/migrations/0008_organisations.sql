-- Limits of organisations, beside those of teams, and what the meter of organisations decided.

ALTER TABLE limit_states ${on_cluster}
    ADD COLUMN IF NOT EXISTS organisation_id LowCardinality(String) COMMENT 'Organisation; empty where the limit is of a team' AFTER team_id,
    MODIFY ORDER BY (team_id, limit_id, window_start, organisation_id),
    COMMENT COLUMN team_id 'Team; empty where the limit is of an organisation',
    COMMENT COLUMN limit_id 'Limit, within the team or organisation',
    COMMENT COLUMN subject 'team, user, agent, project, feature or organisation',
    COMMENT COLUMN subject_id 'Which user, agent, project or feature; empty for the others',
    COMMENT COLUMN window 'day or month, in the zone of the team or organisation; balance: what is left of the team\'s credits',
    COMMENT COLUMN events_topic_id 'Topic id of the topic that the row was counted from: events, or org-usage',
    COMMENT COLUMN partition 'Partition of that topic',
    COMMENT COLUMN generation 'Generation of the journal; a new one tells all limits again';

ALTER TABLE thresholds ${on_cluster}
    ADD COLUMN IF NOT EXISTS organisation_id LowCardinality(String) COMMENT 'Organisation; empty where it is of a team' AFTER team_id,
    ADD COLUMN IF NOT EXISTS cause_team_id LowCardinality(String) COMMENT 'Of an organisation: the team whose usage made the difference; empty where none did' AFTER cause_offset,
    COMMENT COLUMN team_id 'Team; empty where it is of an organisation',
    COMMENT COLUMN limit_id 'Limit, within the team or organisation; empty where it is of no limit',
    COMMENT COLUMN subject 'team, user, agent, project, feature or organisation',
    COMMENT COLUMN subject_id 'Which user, agent, project or feature; empty for the others',
    COMMENT COLUMN window 'day or month, in the zone of the team or organisation; or balance',
    COMMENT COLUMN cause_offset 'Offset of the event that made the difference, in events or in org-usage; -1 where none did',
    COMMENT COLUMN cause_id 'Id of that event, within source and team or organisation',
    COMMENT COLUMN events_topic_id 'Topic id of the topic that the row was counted from: events, or org-usage',
    COMMENT COLUMN partition 'Partition of that topic';

ALTER TABLE organisations ${on_cluster}
    ADD COLUMN IF NOT EXISTS zone LowCardinality(String) DEFAULT 'UTC' COMMENT 'Time zone of its days and months' AFTER parent_id;

ALTER TABLE positions ${on_cluster}
    COMMENT COLUMN feed 'cells, history, catalog or organisations';

CREATE TABLE IF NOT EXISTS organisation_ledger ${on_cluster}
(
    events_topic_id UUID COMMENT 'Topic id of org-usage, whose events were counted',
    generation UInt32 COMMENT 'Generation of the journal of organisations',
    partition UInt16 COMMENT 'Partition of org-usage',
    journal_offset Int64 COMMENT 'Offset of the record in org-journal',
    journal_prev Int64 COMMENT 'Journal offset of the valid record before it, -1 where there is none',
    kind LowCardinality(String) COMMENT 'genesis or step',
    events_from Int64 COMMENT 'First offset of org-usage that the record decides',
    events_to Int64 COMMENT 'One past the last offset that it decides',
    counted Int64 COMMENT 'Offsets that were counted',
    duplicate Int64 COMMENT 'Offsets that repeat an event which was counted before',
    conflict Int64 COMMENT 'Offsets with the identity of a counted event and other content',
    rejected Int64 COMMENT 'Offsets that were rejected; rejected_reasons says why',
    too_late Int64 COMMENT 'Offsets of events older than the deduplication horizon',
    gap Int64 COMMENT 'Offsets without a record: transaction markers and aborted records',
    unread Int64 COMMENT 'Offsets that retention removed before they were read: a loss',
    rejected_reasons Map(LowCardinality(String), Int64) COMMENT 'Rejected offsets by reason',
    clock DateTime64(6, 'UTC') COMMENT 'Clock of the partition after the record',
    log_time DateTime64(6, 'UTC') COMMENT 'When the broker stored the journal record',
    stored_at DateTime64(6, 'UTC') COMMENT 'When the sink wrote this row, by its own clock',
    version UInt64 COMMENT 'Generation, leader epoch and journal offset in one number: of rows with one identity the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (events_topic_id, generation, partition, journal_offset)
COMMENT 'What became of the usage that teams told their organisations: one row for each record of org-journal but idle ones.';
