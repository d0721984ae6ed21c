CREATE OR REPLACE VIEW usage_by_${by} ${on_cluster} AS
SELECT
    window_start,
    ${key},
    total_runs AS runs,
    total_errors AS errors,
    total_unpriced_runs AS unpriced_runs,
    total_input_tokens AS input_tokens,
    total_output_tokens AS output_tokens,
    total_cached_tokens AS cached_tokens,
    total_reasoning_tokens AS reasoning_tokens,
    total_credits_micro AS credits_micro,
    CAST(total_credits_micro AS Decimal(38, 6)) / 1000000 AS credits,
    total_amount_micro AS amount_micro,
    total_cost_micro AS cost_micro,
    total_session_us AS session_us,
    total_duration_us AS duration_us,
    total_request_bytes AS request_bytes,
    total_response_bytes AS response_bytes,
    sketchQuantile(latencies, 0.5) / 1000 AS latency_p50_ms,
    sketchQuantile(latencies, 0.9) / 1000 AS latency_p90_ms,
    sketchQuantile(latencies, 0.95) / 1000 AS latency_p95_ms,
    sketchQuantile(latencies, 0.99) / 1000 AS latency_p99_ms,
    sketchQuantile(first_tokens, 0.5) / 1000 AS first_token_p50_ms,
    sketchQuantile(first_tokens, 0.9) / 1000 AS first_token_p90_ms,
    sketchQuantile(first_tokens, 0.95) / 1000 AS first_token_p95_ms,
    sketchQuantile(first_tokens, 0.99) / 1000 AS first_token_p99_ms,
    if(total_latency_us > 0, total_output_tokens * 1000000 / total_latency_us, NULL)
        AS output_tokens_per_second,
    latencies AS latency_sketch,
    first_tokens AS first_token_sketch
FROM
(
    SELECT
        window_start,
        ${key},
        sum(runs) AS total_runs,
        sum(errors) AS total_errors,
        sum(unpriced_runs) AS total_unpriced_runs,
        sum(input_tokens) AS total_input_tokens,
        sum(output_tokens) AS total_output_tokens,
        sum(cached_tokens) AS total_cached_tokens,
        sum(reasoning_tokens) AS total_reasoning_tokens,
        sum(credits_micro) AS total_credits_micro,
        sum(amount_micro) AS total_amount_micro,
        sum(cost_micro) AS total_cost_micro,
        sum(session_us) AS total_session_us,
        sum(duration_us) AS total_duration_us,
        sum(request_bytes) AS total_request_bytes,
        sum(response_bytes) AS total_response_bytes,
        sum(latency_us) AS total_latency_us,
        sumMap(latency_sketch) AS latencies,
        sumMap(first_token_sketch) AS first_tokens
    FROM usage_cells(
        window = {window:String}, zone = {zone:String},
        since = {since:String}, until = {until:String}
    )
    GROUP BY window_start, ${key}
);
