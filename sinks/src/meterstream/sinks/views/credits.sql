-- Accounts for people, and which kinds of credits paid for a run and for a session.

CREATE OR REPLACE VIEW balances ${on_cluster}
(
    team_id String COMMENT 'Team',
    balance Decimal(38, 6) COMMENT 'Credits left of all grants less what is overdrawn',
    overdraft Decimal(38, 6) COMMENT 'How far the balance may fall below zero, by the plan',
    granted Decimal(38, 6) COMMENT 'All credits ever granted, rollovers and refunds included',
    drawn Decimal(38, 6) COMMENT 'All credits ever drawn for charges, less what was given back',
    expired Decimal(38, 6) COMMENT 'All credits that ever expired',
    rolled_over Decimal(38, 6) COMMENT 'All credits that ever left a grant to be carried over',
    is_exhausted UInt8 COMMENT '1 where nothing more should be admitted, else 0',
    plan_id String COMMENT 'Plan in force; empty where there is none',
    plan_version Int64 COMMENT 'Its version; 0 where there is none',
    period_start DateTime64(6, 'UTC') COMMENT 'Start of its period, UTC; 1970 where there is none',
    period_end DateTime64(6, 'UTC') COMMENT 'End of its period, not included, UTC; 2299 where there is none',
    log_time DateTime('UTC') COMMENT 'Clock of the partition when the account changed last, by the broker\'s log'
)
AS SELECT
    team_id,
    CAST(balance_micro AS Decimal(38, 6)) / 1000000 AS balance,
    CAST(overdraft_micro AS Decimal(38, 6)) / 1000000 AS overdraft,
    CAST(granted_micro AS Decimal(38, 6)) / 1000000 AS granted,
    CAST(drawn_micro AS Decimal(38, 6)) / 1000000 AS drawn,
    CAST(expired_micro AS Decimal(38, 6)) / 1000000 AS expired,
    CAST(rolled_over_micro AS Decimal(38, 6)) / 1000000 AS rolled_over,
    is_exhausted,
    plan_id,
    plan_version,
    period_start,
    period_end,
    log_time
FROM accounts FINAL
COMMENT 'The balance of each team, in credits.';

CREATE OR REPLACE VIEW draws_by_run ${on_cluster}
(
    team_id String COMMENT 'Team',
    run_id String COMMENT 'Run; empty where its event is gone, and for the time of a session',
    session_id String COMMENT 'Session of the run, or whose time it is; empty where none was named',
    kind String COMMENT 'Kind of the grants that paid: funded, reward, promotional, top_up or refund; overdraft where none has yet; expired where a correction gave back to grants that are gone',
    credits_micro Int64 COMMENT 'Credits, in millionths, less what corrections gave back'
)
AS SELECT
    team_id,
    run_id,
    session_id,
    kind,
    sum(amount_micro) AS credits_micro
FROM
(
    SELECT draws.team_id AS team_id, runs.run_id AS run_id, runs.session_id AS session_id,
        draws.kind AS kind, draws.amount_micro AS amount_micro
    FROM (SELECT * FROM draws FINAL WHERE event_offset >= 0) AS draws
    INNER JOIN (SELECT * FROM runs FINAL WHERE event_type = 'completed') AS runs
        ON draws.team_id = runs.team_id
        AND draws.events_topic_id = runs.events_topic_id
        AND draws.generation = runs.generation
        AND draws.partition = runs.partition
        AND draws.event_offset = runs.event_offset
    UNION ALL
    SELECT draws.team_id AS team_id, '' AS run_id, charges.session_id AS session_id,
        draws.kind AS kind, draws.amount_micro AS amount_micro
    FROM (SELECT * FROM draws FINAL WHERE event_offset >= 0) AS draws
    INNER JOIN (SELECT * FROM charges FINAL WHERE session_id != '') AS charges
        ON draws.team_id = charges.team_id
        AND draws.events_topic_id = charges.events_topic_id
        AND draws.generation = charges.generation
        AND draws.partition = charges.partition
        AND draws.event_offset = charges.event_offset
    UNION ALL
    SELECT draws.team_id AS team_id, corrections.run_id AS run_id,
        corrections.session_id AS session_id, draws.kind AS kind,
        draws.amount_micro AS amount_micro
    FROM (SELECT * FROM draws FINAL WHERE control_offset >= 0) AS draws
    INNER JOIN (SELECT * FROM corrections FINAL) AS corrections
        ON draws.team_id = corrections.team_id
        AND draws.events_topic_id = corrections.events_topic_id
        AND draws.generation = corrections.generation
        AND draws.partition = corrections.partition
        AND draws.control_offset = corrections.control_offset
)
GROUP BY team_id, run_id, session_id, kind
COMMENT 'Which kinds of credits paid for each run, and for the time of each session.';

CREATE OR REPLACE VIEW draws_by_session ${on_cluster}
(
    team_id String COMMENT 'Team',
    session_id String COMMENT 'Session',
    kind String COMMENT 'Kind of the grants that paid, as in draws_by_run',
    time_micro Int64 COMMENT 'Credits for its time, in millionths',
    runs_micro Int64 COMMENT 'Credits for its runs, in millionths, less what corrections gave back',
    credits_micro Int64 COMMENT 'Both together, in millionths'
)
AS SELECT
    team_id,
    session_id,
    kind,
    sumIf(draws_by_run.credits_micro, run_id = '') AS time_micro,
    sumIf(draws_by_run.credits_micro, run_id != '') AS runs_micro,
    sum(draws_by_run.credits_micro) AS credits_micro
FROM draws_by_run
WHERE session_id != ''
GROUP BY team_id, session_id, kind
COMMENT 'Which kinds of credits paid for each session: for its time, and for its runs.';
