-- Who and what there is: the catalog topic, one table for each kind of entry.

CREATE TABLE IF NOT EXISTS organisations ${on_cluster}
(
    organisation_id String COMMENT 'Organisation',
    name String COMMENT 'Its name',
    parent_id String COMMENT 'Organisation it is part of; empty where none',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (organisation_id)
COMMENT 'Organisations; parent_id makes them a tree.';

CREATE TABLE IF NOT EXISTS teams ${on_cluster}
(
    team_id String COMMENT 'Team',
    organisation_id String COMMENT 'Organisation it belongs to',
    name String COMMENT 'Its name',
    zone LowCardinality(String) COMMENT 'Time zone of its days and months',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (team_id)
COMMENT 'Teams: what is charged.';

CREATE TABLE IF NOT EXISTS users ${on_cluster}
(
    user_id String COMMENT 'User',
    email String COMMENT 'E-mail address',
    display_name String COMMENT 'Name to show',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (user_id)
COMMENT 'Users.';

CREATE TABLE IF NOT EXISTS memberships ${on_cluster}
(
    user_id String COMMENT 'User',
    team_id String COMMENT 'Team; empty for a role in an organisation',
    organisation_id String COMMENT 'Organisation; empty for a role in a team',
    role LowCardinality(String) COMMENT 'member, admin or finance',
    valid_from DateTime64(6, 'UTC') COMMENT 'From when',
    valid_until Nullable(DateTime64(6, 'UTC')) COMMENT 'Until when; null while it lasts',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (user_id, team_id, organisation_id, valid_from)
COMMENT 'Who has which role in which team or organisation, from when until when.';

CREATE TABLE IF NOT EXISTS agents ${on_cluster}
(
    agent_id String COMMENT 'Agent',
    name String COMMENT 'Its name',
    agent_type LowCardinality(String) COMMENT 'Type, which rate cards ask for',
    created_by String COMMENT 'User who created it',
    created_at DateTime64(6, 'UTC') COMMENT 'When it was created',
    team_id String COMMENT 'Team that owns it; empty where none',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (agent_id)
COMMENT 'Agents.';

CREATE TABLE IF NOT EXISTS projects ${on_cluster}
(
    project_id String COMMENT 'Project',
    team_id String COMMENT 'Team that owns it',
    name String COMMENT 'Its name',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (project_id)
COMMENT 'Projects of teams.';

CREATE TABLE IF NOT EXISTS features ${on_cluster}
(
    feature_id String COMMENT 'Feature',
    name String COMMENT 'Its name',
    premium Bool COMMENT 'Whether it is a premium feature',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (feature_id)
COMMENT 'Features of the platform.';

CREATE TABLE IF NOT EXISTS plans ${on_cluster}
(
    plan_id String COMMENT 'Plan',
    plan_version UInt32 COMMENT 'Version of the plan',
    name String COMMENT 'Its name',
    tier LowCardinality(String) COMMENT 'individual, team or enterprise',
    allowance_credits_micro Int64 COMMENT 'Credits a month, in millionths',
    rollover_cap_micro Int64 COMMENT 'Credits that are carried over at most, in millionths',
    rollover_expiry_days Nullable(Int32) COMMENT 'Days that carried credits last; null: no end',
    retention_days Int32 COMMENT 'Days that single runs are kept',
    features Array(String) COMMENT 'Features it includes',
    overdraft_micro Int64 COMMENT 'How far a balance may fall below zero, in millionths',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (plan_id, plan_version)
COMMENT 'Versions of plans: what a team gets each month.';

CREATE TABLE IF NOT EXISTS rate_cards ${on_cluster}
(
    name String COMMENT 'Rate card',
    card_version UInt32 COMMENT 'Version of the card',
    currency LowCardinality(String) COMMENT 'ISO 4217 code; empty where none',
    effective_from DateTime64(6, 'UTC') COMMENT 'From when it prices runs',
    prices String COMMENT 'Price lines, as JSON',
    session_micro_per_second Map(String, Int64) COMMENT 'Credits a second by machine size, in millionths',
    agent_type_multiplier_permille Map(String, Int64) COMMENT 'Multipliers by agent type, in thousandths',
    premium_multiplier_permille Int64 COMMENT 'Multiplier of premium features, in thousandths',
    updated_at DateTime64(6, 'UTC') COMMENT 'When the catalog entry was published (event time)',
    version UInt64 COMMENT 'Log time and offset of the entry in the catalog topic; the highest counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY (name, card_version)
COMMENT 'Versions of rate cards: what runs cost.';
