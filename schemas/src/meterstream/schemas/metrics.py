"""Every metric of every service: name, kind, labels, unit and meaning, declared once.

Services build their metrics from here, and `docs/metrics.md` is generated from here. No metric
carries the name of a user, team or organisation.
"""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]
Service = Literal["meter", "publisher", "sink", "notifier", "producer"]

TIME_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZE_BUCKETS: Final = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Its full name is `meterstream_<service>_<name>`; counters end in `_total`."""

    service: Service
    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as Prometheus shows it."""
        suffix = "_total" if self.kind == "counter" else ""
        return f"meterstream_{self.service}_{self.name}{suffix}"


_P: Final = ("partition",)

METER: Final = (
    Metric(
        "meter",
        "lag_records",
        "gauge",
        "records",
        "Events in the log that no journal record decides yet",
        _P,
    ),
    Metric(
        "meter",
        "lag_seconds",
        "gauge",
        "seconds",
        "Age of the last event read, while there are more; 0 when caught up",
        _P,
    ),
    Metric(
        "meter", "events_position", "gauge", "offset", "Next offset of the events topic to read", _P
    ),
    Metric(
        "meter",
        "verdicts",
        "counter",
        "offsets",
        "Offsets decided, by class of the loss ledger",
        ("partition", "verdict"),
    ),
    Metric(
        "meter",
        "rejected",
        "counter",
        "events",
        "Events refused, by reason",
        ("partition", "reason"),
    ),
    Metric(
        "meter",
        "unpriced",
        "counter",
        "charges",
        "Runs, and spans of session time, that no rate card priced: counted, charged nothing yet",
        _P,
    ),
    Metric(
        "meter",
        "unread_offsets",
        "counter",
        "offsets",
        "Offsets that retention removed before they were read: usage that is lost. Alarm",
        _P,
    ),
    Metric(
        "meter",
        "batch_events",
        "histogram",
        "events",
        "Events decided by one journal record",
        (),
        SIZE_BUCKETS,
    ),
    Metric(
        "meter",
        "stage_seconds",
        "histogram",
        "seconds",
        "Time of one step by stage: wait (for events), compute, journal, apply, snapshot",
        ("stage",),
        TIME_BUCKETS,
    ),
    Metric(
        "meter",
        "journal_records",
        "counter",
        "records",
        "Journal records written, by kind",
        ("partition", "kind"),
    ),
    Metric("meter", "limits", "gauge", "limits", "Limits in force, of teams", _P),
    Metric(
        "meter",
        "total_subjects",
        "gauge",
        "subjects",
        "Teams, users, agents, projects and features whose totals are kept, whatever the window",
        _P,
    ),
    Metric("meter", "accounts", "gauge", "accounts", "Teams that have an account of credits", _P),
    *(
        Metric("meter", f"credits_{name}_micro", "gauge", "micro-credits", help_text, _P)
        for name, help_text in (
            ("granted", "All that accounts were ever granted, rollovers and refunds included"),
            ("overdrawn", "What accounts have drawn and no grant has paid yet"),
            ("drawn", "All that was ever drawn for charges, less what was given back"),
            ("expired", "All that ever expired"),
            ("rolled_over", "All that ever left a grant to be carried over"),
            ("left", "What is left of all grants"),
            (
                "difference",
                "granted + overdrawn - drawn - expired - rolled over - left: always 0. Alarm",
            ),
        )
    ),
    Metric("meter", "journal_bytes", "counter", "bytes", "Bytes of journal records written", _P),
    Metric(
        "meter",
        "void_records",
        "counter",
        "records",
        "Journal records passed over as void when restoring: another writer's",
        _P,
    ),
    Metric(
        "meter",
        "restarts",
        "counter",
        "restarts",
        "Times a state was dropped and restored because a record's fate was in doubt",
        _P,
    ),
    Metric("meter", "live_cells", "gauge", "cells", "Cells whose minutes still take events", _P),
    Metric("meter", "dedup_ids", "gauge", "ids", "Identities kept to recognise duplicates", _P),
    Metric("meter", "dedup_bytes", "gauge", "bytes", "Memory of those identities", _P),
    Metric(
        "meter",
        "dedup_over_budget",
        "gauge",
        "flag",
        "1 while the identities take more memory than METERSTREAM_DEDUP_BYTES. Alarm",
    ),
    Metric("meter", "restore_seconds", "gauge", "seconds", "How long the last restore took", _P),
    Metric(
        "meter", "restored_records", "gauge", "records", "Journal records the last restore read", _P
    ),
    Metric(
        "meter",
        "stopped_partitions",
        "gauge",
        "flag",
        "1 for a partition that does not join its logs and waits for a person. Alarm",
        _P,
    ),
    Metric(
        "meter",
        "clock_seconds",
        "gauge",
        "seconds",
        "The partition's clock, seconds since 1970",
        _P,
    ),
    Metric(
        "meter",
        "skewed_log_times",
        "counter",
        "events",
        "Log times too far ahead to move the clock. Alarm",
        _P,
    ),
    Metric(
        "meter",
        "catalog_age_seconds",
        "gauge",
        "seconds",
        "How long ago the catalog was last seen complete; above 240 nothing is computed. Alarm",
    ),
    Metric(
        "meter",
        "snapshot_bytes",
        "counter",
        "bytes",
        "Bytes of snapshots that were new and stored",
        _P,
    ),
    Metric(
        "meter",
        "snapshot_offset",
        "gauge",
        "offset",
        "Journal offset of the newest snapshot stored",
        _P,
    ),
)

PUBLISHER: Final = (
    Metric(
        "publisher",
        "journal_lag_records",
        "gauge",
        "records",
        "Journal records not published yet",
        _P,
    ),
    Metric(
        "publisher",
        "dead_letters",
        "counter",
        "events",
        "Dead letters written, by reason",
        ("partition", "reason"),
    ),
    Metric(
        "publisher",
        "lost_dead_letters",
        "counter",
        "events",
        "Dead letters written without their bytes: retention had removed them, or they are damaged",
        _P,
    ),
    Metric(
        "publisher",
        "threshold_events",
        "counter",
        "events",
        "Threshold events published, by kind: reached, blocked, reset, low, exhausted, expiring;"
        " and by the highest of the levels 500, 800, 900 and 1000 thousandths that a reached or low"
        " one has: 0 for less, above for more than 1000, none for the other kinds",
        ("partition", "kind", "level"),
    ),
    Metric(
        "publisher",
        "threshold_seconds",
        "histogram",
        "seconds",
        "From the log time of the event that crossed (of the journal record, where no event did) to"
        " the publication of the threshold event",
        (),
        TIME_BUCKETS,
    ),
    Metric(
        "publisher",
        "limit_states",
        "counter",
        "states",
        "States of limits published, removals included",
        _P,
    ),
    Metric(
        "publisher",
        "organisation_usage",
        "counter",
        "events",
        "Events written to org-usage: what teams used, for each organisation above them",
        _P,
    ),
    Metric(
        "publisher",
        "knowledge_age_seconds",
        "gauge",
        "seconds",
        "How long ago the usage was counted that readers of limit-states know of: now, less the"
        " clock of the partition's last heartbeat. Alarm",
        _P,
    ),
    Metric(
        "publisher", "void_records", "counter", "records", "Journal records passed over as void", _P
    ),
    Metric(
        "publisher",
        "transactions",
        "counter",
        "transactions",
        "Transactions by outcome: committed, aborted",
        ("outcome",),
    ),
    Metric(
        "publisher",
        "transaction_seconds",
        "histogram",
        "seconds",
        "Time of one transaction, from its first record to its commit",
        (),
        TIME_BUCKETS,
    ),
    Metric(
        "publisher",
        "stopped_partitions",
        "gauge",
        "flag",
        "1 for a partition whose chain cannot be followed. Alarm",
        _P,
    ),
)

_FP: Final = ("feed", "partition")

SINK: Final = (
    Metric(
        "sink",
        "lag_records",
        "gauge",
        "records",
        "Records of the feed's topic that are not stored yet",
        _FP,
    ),
    Metric(
        "sink",
        "lag_seconds",
        "gauge",
        "seconds",
        "Age of the last journal record stored, while there are more; 0 when caught up",
        _FP,
    ),
    Metric("sink", "records", "counter", "records", "Valid records stored", _FP),
    Metric(
        "sink", "void_records", "counter", "records", "Journal records passed over as void", _FP
    ),
    Metric(
        "sink",
        "freshness_seconds",
        "histogram",
        "seconds",
        "From an event's log time to its usage standing in ClickHouse",
        (),
        TIME_BUCKETS,
    ),
    Metric(
        "sink",
        "flush_seconds",
        "histogram",
        "seconds",
        "Time of one flush",
        ("feed",),
        TIME_BUCKETS,
    ),
    Metric(
        "sink",
        "rows",
        "counter",
        "rows",
        "Rows sent to ClickHouse, by table; resent ones included",
        ("table",),
    ),
    Metric(
        "sink",
        "retries",
        "counter",
        "retries",
        "Flushes tried again because ClickHouse or Kafka failed",
        ("feed",),
    ),
    Metric(
        "sink",
        "quarantined_rows",
        "counter",
        "rows",
        "Rows that ClickHouse refused, now in the table quarantine. Alarm",
        ("table",),
    ),
    Metric(
        "sink",
        "closed_until_seconds",
        "gauge",
        "seconds",
        "Until when coarse windows are closed, seconds since 1970, by grain",
        ("partition", "grain"),
    ),
    Metric(
        "sink",
        "missing_events",
        "counter",
        "events",
        "Runs whose events were gone or damaged: history written from their charges",
        _P,
    ),
    Metric(
        "sink",
        "refused_entries",
        "counter",
        "entries",
        "Catalog entries that are not in the contract and are left out",
    ),
    Metric(
        "sink",
        "truncations",
        "counter",
        "truncations",
        "Times the journal had lost records that were stored: their rows were removed. Alarm",
        _FP,
    ),
    Metric(
        "sink",
        "stopped_feeds",
        "gauge",
        "flag",
        "1 for a feed that cannot go on and waits for a person. Alarm",
        ("feed",),
    ),
)

_K: Final = ("kind",)

NOTIFIER: Final = (
    Metric(
        "notifier",
        "sent",
        "counter",
        "notifications",
        "Notifications that a destination took, by its kind: webhook, email",
        _K,
    ),
    Metric(
        "notifier",
        "failed_attempts",
        "counter",
        "attempts",
        "Attempts that a destination did not take, or that did not reach it",
        _K,
    ),
    Metric(
        "notifier",
        "retries",
        "counter",
        "attempts",
        "Attempts that were not the first one of their notification",
        _K,
    ),
    Metric(
        "notifier",
        "dead_letters",
        "counter",
        "notifications",
        "Notifications that were given up and stand in the dead-letter list. Alarm",
        _K,
    ),
    Metric(
        "notifier",
        "delivery_seconds",
        "histogram",
        "seconds",
        "From the time of a threshold event to its delivery",
        _K,
        (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86_400),
    ),
    Metric(
        "notifier",
        "backlog_events",
        "gauge",
        "events",
        "Threshold events that destinations have still to pass, added up over them",
        _K,
    ),
    Metric(
        "notifier",
        "failing_destinations",
        "gauge",
        "destinations",
        "Destinations with a notification whose last attempt failed. Alarm after a while",
        _K,
    ),
    Metric(
        "notifier",
        "stopped_destinations",
        "gauge",
        "destinations",
        "Destinations that this process does not serve any more. Alarm",
        _K,
    ),
    Metric(
        "notifier",
        "missed_events",
        "counter",
        "offsets",
        "Offsets of thresholds that retention removed before a destination came to them. Alarm",
        _K,
    ),
    Metric(
        "notifier",
        "unreadable_events",
        "counter",
        "events",
        "Records of thresholds that are not in the contract and were passed over. Alarm",
        _K,
    ),
)

_N: Final = ("publisher",)
_G: Final = ("gate",)

PRODUCER: Final = (
    Metric(
        "producer",
        "published",
        "counter",
        "events",
        "Events accepted by publish, by event type",
        (*_N, "type"),
    ),
    Metric(
        "producer",
        "acknowledged",
        "counter",
        "events",
        "Events that all in-sync replicas of the broker have, those of adopted spools included",
        _N,
    ),
    Metric(
        "producer",
        "failed",
        "counter",
        "events",
        "Events not accepted, or accepted and then refused or lost, by the error's class. Alarm",
        (*_N, "reason"),
    ),
    Metric(
        "producer",
        "problems",
        "counter",
        "problems",
        "Problems with the broker or the spool while sending, by the error's class",
        (*_N, "kind"),
    ),
    Metric(
        "producer",
        "spooled_events",
        "gauge",
        "events",
        "Events in the spool that are not acknowledged yet",
        _N,
    ),
    Metric("producer", "spooled_bytes", "gauge", "bytes", "Disk that the spool takes", _N),
    Metric(
        "producer",
        "spool_age_seconds",
        "gauge",
        "seconds",
        "How long this process has tried to send its oldest event; an hour is an Alarm",
        _N,
    ),
    Metric(
        "producer",
        "queue_depth",
        "gauge",
        "events",
        "Events in memory that are not yet written to the spool",
        _N,
    ),
    Metric(
        "producer",
        "delivery_seconds",
        "histogram",
        "seconds",
        "From accepting an event to its acknowledgement",
        _N,
        (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600, 86_400),
    ),
    Metric(
        "producer",
        "metering_errors",
        "counter",
        "errors",
        "Errors of the Meter facade that were kept from its caller, by the error's class",
        ("kind",),
    ),
    Metric(
        "producer",
        "gate_checks",
        "counter",
        "checks",
        "Checks and reservations of a gate, by the rule that decided: within_limits and fail_open"
        " admit; blocked, held, share and fail_closed refuse",
        (*_G, "rule"),
    ),
    Metric(
        "producer",
        "gate_age_seconds",
        "gauge",
        "seconds",
        "Age of what a gate knows, of the partition that is most behind, also of organisations"
        " where they have hard limits; infinite before all is known. Above gate_max_age_s is an"
        " Alarm",
        _G,
    ),
    Metric("producer", "gate_states", "gauge", "limits", "Limits that a gate knows", _G),
    Metric(
        "producer",
        "gate_ignored",
        "counter",
        "records",
        "Records that changed nothing, of the limit states or of teams and organisations:"
        " repeated, old, unreadable, other_owner",
        (*_G, "reason"),
    ),
    Metric(
        "producer",
        "gate_problems",
        "counter",
        "problems",
        "Problems of a gate with the broker or with records, by the error's class",
        (*_G, "kind"),
    ),
    Metric(
        "producer",
        "gate_reservations",
        "gauge",
        "reservations",
        "Reservations of a gate that are open, or settled without a known offset",
        _G,
    ),
    Metric(
        "producer",
        "gate_expired",
        "counter",
        "reservations",
        "Reservations given up because nobody settled them in time",
        _G,
    ),
)

METRICS: Final = METER + PUBLISHER + SINK + NOTIFIER + PRODUCER


def markdown() -> str:
    """Return `docs/metrics.md`."""
    lines = [
        "# Metrics",
        "",
        "Each service serves Prometheus metrics on its loopback port under `/metrics`, and its",
        "state under `/healthz` and `/readyz`. Those of the producer stand in the registry of the",
        "service that publishes. Those marked *Alarm* should wake somebody.",
    ]
    for service in dict.fromkeys(metric.service for metric in METRICS):
        lines += ["", f"## {service}", "", "| metric | kind | unit | labels | meaning |"]
        lines.append("|---|---|---|---|---|")
        lines += [
            f"| `{m.full_name}` | {m.kind} | {m.unit} | {', '.join(m.labels)} | {m.meaning} |"
            for m in METRICS
            if m.service == service
        ]
    return "\n".join(lines) + "\n"
