"""What can go wrong in the embedded stack.

- LocalStackError
  - MissingToolError      something must be installed first
  - StartError            a process did not come up; its last log lines are in the message
  - StopError             a process did not end
  - UnsupportedServerError  a server that is too old for Meterstream
"""


class LocalStackError(Exception):
    """Any failure of the embedded stack; the message says what to do next."""


class MissingToolError(LocalStackError):
    """A tool that the embedded stack needs is not on this machine, or is too old."""


class StartError(LocalStackError):
    """A process ended before it was ready, or was not ready before its deadline."""


class StopError(LocalStackError):
    """A process was still there after it had been killed."""


class UnsupportedServerError(LocalStackError):
    """A server answers, but its version is older than what Meterstream is made for."""
