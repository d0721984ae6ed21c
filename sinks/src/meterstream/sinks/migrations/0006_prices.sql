-- Session time, prices in a currency beside credits, and what the provider costs.

ALTER TABLE usage_minutes ${on_cluster}
    ADD COLUMN IF NOT EXISTS session_us Int64 COMMENT 'Session time by the broker\'s clock, microseconds' AFTER first_token_us,
    ADD COLUMN IF NOT EXISTS amount_micro Int64 COMMENT 'Price in the rate card\'s currency, in millionths of it' AFTER session_us,
    ADD COLUMN IF NOT EXISTS cost_micro Int64 COMMENT 'Cost of the provider in that currency, in millionths of it' AFTER amount_micro,
    COMMENT COLUMN operation 'agent_run, api_call or feature; session for session time',
    COMMENT COLUMN unpriced_runs 'Runs, and spans of session time, that no rate card priced yet';

ALTER TABLE usage_quarters ${on_cluster}
    ADD COLUMN IF NOT EXISTS session_us Int64 COMMENT 'Session time by the broker\'s clock, microseconds' AFTER first_token_us,
    ADD COLUMN IF NOT EXISTS amount_micro Int64 COMMENT 'Price in the rate card\'s currency, in millionths of it' AFTER session_us,
    ADD COLUMN IF NOT EXISTS cost_micro Int64 COMMENT 'Cost of the provider in that currency, in millionths of it' AFTER amount_micro,
    COMMENT COLUMN operation 'agent_run, api_call or feature; session for session time',
    COMMENT COLUMN unpriced_runs 'Runs, and spans of session time, that no rate card priced yet';

ALTER TABLE usage_days ${on_cluster}
    ADD COLUMN IF NOT EXISTS session_us Int64 COMMENT 'Session time by the broker\'s clock, microseconds' AFTER first_token_us,
    ADD COLUMN IF NOT EXISTS amount_micro Int64 COMMENT 'Price in the rate card\'s currency, in millionths of it' AFTER session_us,
    ADD COLUMN IF NOT EXISTS cost_micro Int64 COMMENT 'Cost of the provider in that currency, in millionths of it' AFTER amount_micro,
    COMMENT COLUMN operation 'agent_run, api_call or feature; session for session time',
    COMMENT COLUMN unpriced_runs 'Runs, and spans of session time, that no rate card priced yet';

ALTER TABLE charges ${on_cluster}
    ADD COLUMN IF NOT EXISTS session_micro Int64 COMMENT 'Credits for session time' AFTER explicit_micro,
    ADD COLUMN IF NOT EXISTS line Int32 DEFAULT -1 COMMENT 'Line of the card that priced the run, from 0; -1 where none did' AFTER session_micro,
    ADD COLUMN IF NOT EXISTS multiplier_ppm Int64 DEFAULT 1000000 COMMENT 'By how many millionths credits and amount were multiplied' AFTER line,
    ADD COLUMN IF NOT EXISTS session_us Int64 COMMENT 'Session time that is charged, microseconds; 0 for runs' AFTER multiplier_ppm,
    ADD COLUMN IF NOT EXISTS amount_micro Int64 COMMENT 'Price in the card\'s currency, in millionths of it' AFTER session_us,
    ADD COLUMN IF NOT EXISTS cost_micro Int64 COMMENT 'Cost of the provider in that currency, in millionths of it' AFTER amount_micro,
    COMMENT COLUMN event_offset 'Offset of the event in the events topic',
    COMMENT COLUMN event_time 'Event time, UTC',
    COMMENT COLUMN operation 'agent_run, api_call or feature; session for session time';

ALTER TABLE runs ${on_cluster}
    ADD COLUMN IF NOT EXISTS line Int32 DEFAULT -1 COMMENT 'Line of the card that priced the run, from 0; -1 where none did' AFTER explicit_micro,
    ADD COLUMN IF NOT EXISTS multiplier_ppm Int64 DEFAULT 1000000 COMMENT 'By how many millionths credits and amount were multiplied' AFTER line,
    ADD COLUMN IF NOT EXISTS amount_micro Int64 COMMENT 'Price in the card\'s currency, in millionths of it' AFTER multiplier_ppm,
    ADD COLUMN IF NOT EXISTS cost_micro Int64 COMMENT 'Cost of the provider in that currency, in millionths of it' AFTER amount_micro;

ALTER TABLE sessions ${on_cluster}
    ADD COLUMN IF NOT EXISTS charged_until DateTime64(6, 'UTC') COMMENT 'Broker\'s clock up to which its time is charged' AFTER heartbeats,
    ADD COLUMN IF NOT EXISTS credits_micro Int64 COMMENT 'Credits charged for its time, in millionths' AFTER charged_until;

ALTER TABLE rate_cards ${on_cluster}
    ADD COLUMN IF NOT EXISTS session_amount_micro_per_second Map(String, Int64) COMMENT 'Price in the currency a second by machine size, in millionths' AFTER session_micro_per_second,
    ADD COLUMN IF NOT EXISTS session_cost_micro_per_second Map(String, Int64) COMMENT 'Cost of the provider a second by machine size, in millionths' AFTER session_amount_micro_per_second;
