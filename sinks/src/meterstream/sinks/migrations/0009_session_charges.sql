-- Which session a charge of session time is of, so that it can be explained and added up.

ALTER TABLE charges ${on_cluster}
    ADD COLUMN IF NOT EXISTS session_id String COMMENT 'Session whose time is charged; empty for runs' AFTER session_us;
