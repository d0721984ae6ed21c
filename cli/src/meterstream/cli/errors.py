"""The errors a user sees: one line that says what happened and what to do, and an exit code."""

from typing import ClassVar, Final

EXIT_CHECK_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_ENVIRONMENT: Final = 3


class CommandError(Exception):
    """A command cannot go on. `str()` of it is the line that is shown."""

    exit_code: ClassVar[int] = EXIT_CHECK_FAILED


class CheckFailed(CommandError):
    """What was checked is not as it must be."""


class BadInput(CommandError):
    """What the user gave cannot be used: an option, a file, a query."""

    exit_code = EXIT_USAGE


class Unreachable(CommandError):
    """Something that the command needs is not there: a broker, ClickHouse, Java, a directory."""

    exit_code = EXIT_ENVIRONMENT
