"""A port that cannot be listened on: the reason is named, and it is the true one."""

import errno
import os
import socket
from pathlib import Path

import pytest

from meterstream.cli.errors import Unreachable
from meterstream.cli.stack.file import choose_addresses
from meterstream.local.ports import LOOPBACK, can_bind, free_ports, why_closed


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the system refuse to bind any port, as it does with users that are not root."""

    def bind(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", bind)


def test_a_free_port() -> None:
    """Where nobody listens nothing is wrong."""
    (port,) = free_ports(1)
    assert why_closed(port) is None
    assert can_bind(port)


def test_a_port_in_use() -> None:
    """Where somebody listens, that is said."""
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        assert why_closed(port) == "is in use: stop what listens there"
        assert not can_bind(port)


def test_a_port_that_wants_more_rights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user who may not use a port is not sent to look for who listens there."""
    refuse(monkeypatch, errno.EACCES)
    with pytest.raises(Unreachable) as caught:
        choose_addresses(tmp_path, kafka_port=92)
    assert str(caught.value) == (
        "port 92 on 127.0.0.1 is closed to this user: ports below 1024 want root's rights, give"
        " another --kafka-port, or leave --kafka-port out and a free port is chosen"
    )


def test_another_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says otherwise is told in its own words."""
    refuse(monkeypatch, errno.EADDRNOTAVAIL)
    assert why_closed(9092) == "cannot be listened on: Cannot assign requested address"
