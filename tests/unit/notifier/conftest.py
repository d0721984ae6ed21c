"""What tests of the notifier share: receivers on loopback."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from tests.support.notices import Receiver, receiver


@dataclass(frozen=True)
class Certified:
    """A server's side of TLS for 127.0.0.1, and the file of the authority that signed it."""

    context: ssl.SSLContext
    ca_file: Path


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """Return a running receiver."""
    with receiver() as running:
        yield running


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """Return a certificate that no system trusts by itself."""
    ca_file = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return Certified(context, ca_file)
