"""Arrow goes without pandas where it is told to, also where pandas is installed."""

import subprocess
import sys

_SCRIPT = """
import sys
from datetime import UTC, datetime
import pyarrow as pa
from meterstream.schemas.arrow import leave_pandas_out
leave_pandas_out()
times = pa.array([datetime.now(UTC)], pa.timestamp("us", "UTC"))
pa.table({"times": times, "numbers": [1]}).to_pylist()
assert "pandas" not in sys.modules, "pyarrow imported pandas"
import pandas
leave_pandas_out()
assert sys.modules["pandas"] is pandas
"""


def test_pyarrow_does_not_import_pandas() -> None:
    """No conversion imports it; who asks for it himself gets it."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
