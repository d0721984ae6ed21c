"""The journal record and its rows, described for whoever reads the journal in another language."""

import re
from dataclasses import fields
from typing import Any, Final

from meterstream.schemas import rows
from meterstream.schemas.journal import HEADER_KEY, Header, Kind, Section
from meterstream.schemas.journal.header import _STRUCT, LAYOUT, NONE
from meterstream.schemas.sketch import BUCKETS, MAX_VALUE
from meterstream.schemas.verdicts import DEAD_LETTERED, Verdict, ledger_class

_ARROW: Final = {
    "text": "dictionary<int32, utf8>",
    "int64": "int64",
    "int32": "int32",
    "uint8": "uint8",
    "seconds": "timestamp[s, UTC]",
    "microseconds": "timestamp[us, UTC]",
    "sketch": "map<int16, int64>",
}


_INTEGERS: Final = {
    "B": "uint8",
    "H": "uint16",
    "I": "uint32",
    "i": "int32",
    "q": "int64",
    "Q": "uint64",
    "16s": "UUID, 16 bytes",
}


def rows_description() -> dict[str, Any]:
    """Return the columns of every kind of row, with their Arrow types and meanings."""
    return {
        "sketch": {
            "buckets": BUCKETS,
            "max_value": MAX_VALUE,
            "unit": "microseconds",
            "boundaries": (
                "bucket 0 holds 0; bucket i starts at low = upper(i-1) + 1, stands for"
                " middle = low * 101 / 100 and ends at middle * 100 / 99, all rounded down"
            ),
        },
        **{
            name: [
                {"name": column.name, "type": _ARROW[column.kind], "comment": column.comment}
                for column in columns
            ]
            for name, columns in (
                ("cell", rows.CELL),
                ("charge", rows.CHARGE),
                ("session", rows.SESSION),
                ("limit_state", rows.LIMIT_STATE),
                ("team_usage", rows.TEAM_USAGE),
                ("organisation_usage", rows.ORGANISATION_USAGE),
            )
        },
    }


def journal_description() -> dict[str, Any]:
    """Return the layout of the journal record: header, sections, verdicts, and when it is valid."""
    return {
        "record_header": {
            "key": HEADER_KEY,
            "layout": LAYOUT,
            "byte_order": "big-endian",
            "none": NONE,
            "fields": _header_fields(),
            "kinds": {kind.name.lower(): kind.value for kind in Kind},
        },
        "value": {
            "section": ["number: uint8", "3 bytes of 0", "length: uint32", "length bytes"],
            "sections": {section.name.lower(): section.value for section in Section},
        },
        "verdicts": {
            verdict.name.lower(): {
                "value": verdict.value,
                "class": ledger_class(verdict),
                "dead_lettered": verdict in DEAD_LETTERED,
            }
            for verdict in Verdict
        },
        "valid": (
            "a record is valid if its prev is the offset of the last valid record, its generation"
            " that of the chain, its events_from the events_to before it, and its clock_us not"
            " lower; a genesis is valid if its generation is above the chain's and its prev not"
            " below the last valid record"
        ),
    }


def _header_fields() -> list[dict[str, str]]:
    codes = re.findall(r"16s|[A-Za-z]", _STRUCT.format)
    names = ["layout", *(field.name for field in fields(Header))]
    return [
        *({"name": name, "type": _INTEGERS[code]} for name, code in zip(names, codes, strict=True)),
        {"name": "header_crc32", "type": "uint32", "of": "the bytes before it"},
    ]
