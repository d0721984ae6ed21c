"""The columns of the rows that travel in the journal and land in ClickHouse, declared once.

Arrow schemas, table definitions and their comments follow from here. Units stand in the names:
`_us` microseconds, `_micro` millionths of a credit.
"""

from dataclasses import dataclass
from typing import Final, Literal

ColumnKind = Literal["text", "int64", "int32", "uint8", "seconds", "microseconds", "sketch"]
"""`seconds` and `microseconds` are UTC timestamps; `sketch` maps bucket (Int16) to count (Int64);
`text` is a dictionary-encoded string."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, kind and meaning."""

    name: str
    kind: ColumnKind
    comment: str


CELL_KEY: Final = (
    Column("window_start", "seconds", "Start of the window of event time, UTC"),
    Column("team_id", "text", "Team that is charged"),
    Column("user_id", "text", "User who ran it; empty where none was named"),
    Column("project_id", "text", "Project; empty where none was named"),
    Column("agent_id", "text", "Agent that ran; empty where none was named"),
    Column("model", "text", "Model that was called; empty where none was named"),
    Column("provider", "text", "Provider of the model; empty where none was named"),
    Column("feature_id", "text", "Feature that was used; empty where none was named"),
    Column("product", "text", "Product it ran in; empty where none was named"),
    Column("operation", "text", "agent_run, api_call or feature; session for session time"),
)

CELL_SUMS: Final = (
    Column("runs", "int64", "Completed runs, whatever their status"),
    Column("errors", "int64", "Runs whose status is failed"),
    Column(
        "unpriced_runs", "int64", "Runs, and spans of session time, that no rate card priced yet"
    ),
    Column("input_tokens", "int64", "Input tokens, cached ones included"),
    Column("output_tokens", "int64", "Output tokens, reasoning ones included"),
    Column("cached_tokens", "int64", "Input tokens that were read from a cache"),
    Column("reasoning_tokens", "int64", "Output tokens that were spent on reasoning"),
    Column("credits_micro", "int64", "Credits charged, in millionths"),
    Column("duration_us", "int64", "Sum of run durations (end less start), microseconds"),
    Column("request_bytes", "int64", "Bytes of requests"),
    Column("response_bytes", "int64", "Bytes of responses"),
    Column("latency_us", "int64", "Sum of latencies, microseconds"),
    Column("first_token_us", "int64", "Sum of times to first token, microseconds"),
    Column("session_us", "int64", "Session time by the broker's clock, microseconds"),
    Column("amount_micro", "int64", "Price in the rate card's currency, in millionths of it"),
    Column("cost_micro", "int64", "Cost of the provider in that currency, in millionths of it"),
)

CELL_SKETCHES: Final = (
    Column("latency_sketch", "sketch", "Latencies: count by bucket"),
    Column("first_token_sketch", "sketch", "Times to first token: count by bucket"),
)

CELL: Final = CELL_KEY + CELL_SUMS + CELL_SKETCHES
"""A cell: what one combination of dimensions used in one window."""

CHARGE_COMPONENTS: Final = (
    Column("run_micro", "int64", "Credits for the run itself, in millionths"),
    Column("input_micro", "int64", "Credits for input tokens that were not cached"),
    Column("output_micro", "int64", "Credits for output tokens that were not reasoning"),
    Column("cached_micro", "int64", "Credits for cached input tokens"),
    Column("reasoning_micro", "int64", "Credits for reasoning tokens"),
    Column("bytes_micro", "int64", "Credits for request and response bytes"),
    Column("explicit_micro", "int64", "Credits that the event itself named"),
    Column("session_micro", "int64", "Credits for session time"),
)

CHARGE: Final = (
    Column("event_offset", "int64", "Offset of the event in the events topic"),
    Column("event_time", "microseconds", "Event time, UTC"),
    Column("cell", "int32", "Row of its cell: in CELLS, then on in LATE_MINUTES"),
    Column("card", "text", "Rate card as name@version; explicit; or unpriced"),
    Column("credits_micro", "int64", "Credits charged: the sum of the components, in millionths"),
    *CHARGE_COMPONENTS,
    Column("line", "int32", "Line of the card that priced the run, from 0; -1 where none did"),
    Column("multiplier_ppm", "int64", "By how many millionths credits and amount were multiplied"),
    Column("session_us", "int64", "Session time that is charged, microseconds; 0 for runs"),
    Column("session_id", "text", "Session whose time is charged; empty for runs"),
    Column("amount_micro", "int64", "Price in the card's currency, in millionths of it"),
    Column("cost_micro", "int64", "Cost of the provider in that currency, in millionths of it"),
)
"""What one counted run, or the session time up to one sign of a session, was charged, and by which
card. In the journal `cell` stands for the cell's key; in ClickHouse the key's columns take its
place. Session time has the operation `session`."""

SESSION_OPERATION: Final = "session"
"""The operation of cells and charges that hold session time. No run has it."""

CORRECTION: Final = (
    Column("control_offset", "int64", "Offset of the correction in the control topic"),
    Column("event_time", "microseconds", "Event time of the run that is put right, UTC"),
    Column("cell", "int32", "Row of the run's cell: in CELLS, then on in LATE_MINUTES"),
    Column("number", "int64", "Number of the adjustment; 0 for a void"),
    Column("original_source", "text", "CloudEvents source of the run's event"),
    Column("original_id", "text", "CloudEvents id of the run's event"),
    Column("run_id", "text", "Run that is put right"),
    Column("session_id", "text", "Session of the run; empty where none was named"),
    Column("card", "text", "What the run was priced by: a rate card, explicit or unpriced"),
    *CELL_SUMS,
    Column("reason", "text", "Why; empty where nobody said"),
)
"""What one correction added to a run's usage, signed: a void takes all of it away. In the journal
`cell` stands for the cell's key; in ClickHouse the key's columns take its place."""

SESSION: Final = (
    Column("team_id", "text", "Team"),
    Column("session_id", "text", "Session"),
    Column("user_id", "text", "User; empty where none was named"),
    Column("agent_id", "text", "Agent; empty where none was named"),
    Column("project_id", "text", "Project; empty where none was named"),
    Column("product", "text", "Product; empty where none was named"),
    Column("application", "text", "Application that runs in the session"),
    Column("machine_size", "text", "Size of its machine; empty where none was named"),
    Column("release", "text", "Release of the application; empty where none was named"),
    Column("status", "text", "active, completed, failed or cancelled"),
    Column("started_at", "microseconds", "When it started; its first sign if no start was seen"),
    Column("last_seen_at", "microseconds", "Its last sign of life"),
    Column("heartbeats", "int64", "Heartbeats counted"),
    Column("charged_until", "microseconds", "Broker's clock up to which its time is charged"),
    Column("credits_micro", "int64", "Credits charged for its time, in millionths"),
)
"""A session as it stands, by (team_id, session_id)."""

ACCOUNT: Final = (
    Column("team_id", "text", "Team"),
    Column("balance_micro", "int64", "What is left of its grants less what is overdrawn"),
    Column("left_micro", "int64", "What is left of its grants, in millionths of a credit"),
    Column("overdrawn_micro", "int64", "What was drawn and no grant has paid yet"),
    Column("overdraft_micro", "int64", "How far the balance may fall below zero, by the plan"),
    Column("granted_micro", "int64", "All that was ever granted, rollovers and refunds included"),
    Column("drawn_micro", "int64", "All that was ever drawn for charges, less what was given back"),
    Column("expired_micro", "int64", "All that ever expired"),
    Column("rolled_over_micro", "int64", "All that ever left a grant to be carried over"),
    Column("is_exhausted", "uint8", "1 where nothing more should be admitted, else 0"),
    Column("plan_id", "text", "Plan in force; empty where there is none"),
    Column("plan_version", "int64", "Its version; 0 where there is none"),
    Column("period_start", "microseconds", "Start of the plan's period, UTC; 1970 for none"),
    Column("period_end", "microseconds", "End of the period, not included, UTC; 2299 for none"),
    Column("since", "microseconds", "What was charged since then is drawn; 2299 if it is to begin"),
    Column("refilled_at", "microseconds", "When something was granted last, UTC"),
)
"""The account of a team: granted + overdrawn = drawn + expired + rolled over + left, always."""

GRANT: Final = (
    Column("team_id", "text", "Team"),
    Column(
        "grant_id", "text", "Grant, within the team; allowance/, rollover/, refund/ by the meter"
    ),
    Column("kind", "text", "funded, reward, promotional, top_up or refund"),
    Column("status", "text", "waiting for its start, open, or closed"),
    Column("priority", "int64", "Lower ones are drawn first, then those that expire first"),
    Column("number", "int64", "Its place in the order of granting"),
    Column("amount_micro", "int64", "What was granted, in millionths of a credit"),
    Column("left_micro", "int64", "What is left of it; 0 once it is closed"),
    Column("expired_micro", "int64", "What of it expired"),
    Column("rolled_over_micro", "int64", "What of it was carried over into another grant"),
    Column("starts_at", "microseconds", "From when on it is drawn, UTC"),
    Column("expires_at", "microseconds", "Until when it is drawn, UTC; 2299 for good"),
    Column("is_allowance", "uint8", "1 where it is what a plan gives for a period, else 0"),
    Column("is_told", "uint8", "1 where it was told, or time to tell, that it will expire, else 0"),
)
"""A grant as it stands, by (team_id, grant_id)."""

DRAW: Final = (
    Column(
        "charge", "int32", "Row in CHARGES, then on in CORRECTIONS; -1: pays what was overdrawn"
    ),
    Column("team_id", "text", "Team"),
    Column("grant_id", "text", "Grant that was drawn; empty where none was"),
    Column("kind", "text", "Kind of the grant; overdraft, or expired where it is gone"),
    Column("amount_micro", "int64", "Credits drawn, in millionths; below 0 given back"),
)
"""How much of a charge was paid by which grant. The draws of a charge add up to its credits."""

LIMIT_STATE: Final = (
    Column("team_id", "text", "Team; the organisation where the subject is one"),
    Column("limit_id", "text", "Limit, within the team or organisation"),
    Column("limit_version", "int64", "Version of the limit"),
    Column("subject", "text", "team, user, agent, project, feature or organisation"),
    Column("subject_id", "text", "Which user, agent, project or feature; empty for the others"),
    Column("measure", "text", "credits, tokens, runs, api_calls or sessions"),
    Column("window", "text", "day or month, in the owner's zone"),
    Column("window_start", "microseconds", "Start of the window, UTC"),
    Column("window_end", "microseconds", "End of the window, not included, UTC"),
    Column("amount", "int64", "The limit, in the measure's unit; credits in millionths"),
    Column("enforcement", "text", "hard: it blocks at its amount; soft: it tells"),
    Column("used", "int64", "What was used in the window, in the measure's unit"),
    Column("reached_permille", "int64", "Highest level reached in it, thousandths; 0 for none"),
    Column("blocked", "uint8", "1 where nothing more should be admitted, else 0"),
    Column("removed", "uint8", "1 where the limit was removed and holds no longer, else 0"),
)

_USES: Final = (
    Column("quarter_start", "microseconds", "Start of the quarter of an hour of event time, UTC"),
    Column("credits_micro", "int64", "Credits, in millionths"),
    Column("tokens", "int64", "Input and output tokens"),
    Column("runs", "int64", "Completed runs"),
    Column("api_calls", "int64", "Of these, API calls"),
    Column("sessions", "int64", "Sessions that started"),
)

TEAM_USAGE: Final = (
    Column("team_id", "text", "Team"),
    Column("organisations", "text", "JSON: its organisation, then what that is part of, upwards"),
    Column("corrects", "uint8", "1 for what corrections added or took back, else 0"),
    *_USES,
)

ORGANISATION_USAGE: Final = (Column("organisation_id", "text", "Organisation"), *_USES)
"""Where a limit stands in a window, by (team_id, limit_id, window_start)."""
