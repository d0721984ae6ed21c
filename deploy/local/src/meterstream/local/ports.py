"""Free TCP ports on loopback."""

import errno
import socket
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> tuple[int, ...]:
    """Return `count` different ports that nobody listens on at this moment.

    Another process may take one before it is used, so whoever binds it must
    still be ready to fail with a clear error.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return tuple(int(each.getsockname()[1]) for each in sockets)


def is_listening(port: int, *, timeout_s: float = 0.25) -> bool:
    """Tell whether somebody accepts connections on this loopback port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def why_closed(port: int) -> str | None:
    """Return why no server of this user can listen on this loopback port now; None if one can.

    It goes on from the port's name, and says what would open the port.
    """
    with socket.socket() as probe:
        # Servers set this option too: a port in TIME_WAIT is free for them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError:
            return "is closed to this user: ports below 1024 want root's rights"
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "is in use: stop what listens there"
            return f"cannot be listened on: {error.strerror}"
    return None


def can_bind(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    return why_closed(port) is None
