-- What no rate card priced, by all that a price line may ask for: what a new card has to name.

CREATE OR REPLACE VIEW unpriced_usage ${on_cluster} AS
SELECT
    team_id,
    operation,
    provider,
    model,
    feature_id,
    agent_id,
    count() AS unpriced,
    min(event_time) AS first_time,
    max(event_time) AS last_time
FROM charges FINAL
WHERE card = 'unpriced'
    AND event_time >= usageRangeStart({since:String}, '1m', {zone:String})
    AND event_time < usageRangeEnd({until:String}, '1m', {zone:String})
GROUP BY team_id, operation, provider, model, feature_id, agent_id;
