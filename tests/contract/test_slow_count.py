"""What may stand beneath the slow count: it is to judge the meter and the sinks."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_LOADED = """
import sys
import tests.support.slow_count
print(*sorted({".".join(name.split(".")[:2]) for name in sys.modules if "meterstream." in name}))
"""


def test_it_imports_nothing_that_it_judges() -> None:
    """Neither the slow count nor what it imports brings in the meter or the sinks."""
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert loaded == ["meterstream.schemas"]
