"""Large buffers go back to the system, also after the C library has seen some."""

import ctypes
import subprocess
import sys

from meterstream.streams.memory import LARGE_BYTES, give_back

_COUNT_MAPPED = f"""
import ctypes
from meterstream.streams.memory import give_back, map_large_buffers

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]

look = ctypes.CDLL(None).mallinfo2
look.restype = Mallinfo2
map_large_buffers()
free = look().d
for _ in range(3):
    buffer = bytearray({2 * LARGE_BYTES})
    used = look().d
    del buffer
    assert (used, look().d) == (free + 1, free), "it is mapped alone, and unmapped"
give_back()
print("mapped")
"""


def test_large_buffers_are_mapped_alone() -> None:
    """With glibc the second large buffer is mapped as the first is, and each goes back."""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        give_back()  # another C library: nothing is asked of it, and nothing fails
        return
    ran = subprocess.run(
        [sys.executable, "-c", _COUNT_MAPPED], capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("mapped\n", "")
