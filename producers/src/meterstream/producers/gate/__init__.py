"""The gate: may a run begin, by the limits that apply, answered from memory.

The way of a record is `follower`, `states`, `knowledge`, `partition`, `index`, and then, of
organisations, `catalog` and `organisations`; that of a check is `gate`, `index`, `organisations`,
`decision`; that of a reservation `gate`, `share`, `book`, `pending`, `reservation`.
"""

from .amounts import Amounts
from .decision import Decision, LimitLeft, Rule
from .gate import Gate
from .limit_gate import LimitGate
from .reservation import Reservation
from .settings import FailMode, GateSettings

__all__ = [
    "Amounts",
    "Decision",
    "FailMode",
    "Gate",
    "GateSettings",
    "LimitGate",
    "LimitLeft",
    "Reservation",
    "Rule",
]
