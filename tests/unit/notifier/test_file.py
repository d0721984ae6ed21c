"""The file of destinations: every fault at once, and no secret in any of them."""

import base64
import textwrap
from pathlib import Path

import pytest
from tests.support.notices import SECRET

from meterstream.notifier.errors import FileInvalid
from meterstream.notifier.file import Destination, read_file
from meterstream.notifier.mail import Mailbox
from meterstream.notifier.webhook import Webhook

OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()

SOUND = """\
    destinations:
      billing:
        webhook:
          url: https://hooks.example.com/meterstream?x=1
          secrets: [{env: NEW_SECRET}, {file: old.secret}]
        start: beginning
      ops-mail:
        email:
          host: smtp.example.com
          from: meterstream@example.com
          to: [ops@example.com, boss@example.com]
          user: meterstream
          password: {env: MAIL_PASSWORD}
    routes:
      - to: [billing]
      - to: [ops-mail, billing]
        types: [meterstream.limit.blocked.v1]
"""


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables and files that SOUND names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEW_SECRET", SECRET)
    monkeypatch.setenv("MAIL_PASSWORD", "sesame")
    (tmp_path / "old.secret").write_text(OTHER + "\n")


def read(text: str) -> tuple[Destination, ...]:
    """Read a file of this text."""
    file = Path("notifier.yaml")
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return read_file(file, 15.0)


def faults(text: str) -> str:
    """Return what is said of a file that cannot be used."""
    with pytest.raises(FileInvalid) as refused:
        read(text)
    said = str(refused.value)
    assert SECRET not in said
    assert "sesame" not in said
    return said


def test_a_sound_file() -> None:
    """Each destination has its way, its secrets and its own routes."""
    billing, mail = read(SOUND)
    assert (billing.name, billing.kind, billing.from_beginning) == ("billing", "webhook", True)
    assert (mail.name, mail.kind, mail.from_beginning) == ("ops-mail", "email", False)
    assert (len(billing.routes), len(mail.routes)) == (2, 1)
    assert isinstance(billing.target, Webhook)
    assert billing.target.keys == (base64.b64decode(SECRET[6:]), bytes(32))
    assert isinstance(mail.target, Mailbox)
    assert (mail.target.port, mail.target.tls) == (587, "starttls")
    assert mail.target.password == "sesame"


def test_all_faults_at_once() -> None:
    """Whoever mends the file sees all that is wrong with it, with its place."""
    said = faults(
        """\
        destinations:
          billing:
            webhook: {url: "http://hooks.example.com/", secrets: [{env: NOT_THERE}]}
          plain:
            webhook: {url: "https://a.example.com/", secrets: [whsec_in-the-file]}
          mail:
            email: {host: h, from: nobody, to: [], user: u, tls: ssl, port: 0}
          both: {webhook: {}, email: {}}
          none: {}
          Bad_Name: {email: {host: "-", from: a@b.example, to: [a@b.example, 5], tsl: tls}}
        routes:
          - {to: [billing, nowhere], teams: [7]}
        more: 1
        """
    )
    for part in (
        "destinations.billing.webhook.secrets.0: the variable NOT_THERE is empty or not set",
        "destinations.plain.webhook.secrets.0: {env: NAME} or {file: PATH} is expected",
        "destinations.mail.email.from:",
        "destinations.mail.email.to:",
        "destinations.mail.email.tls:",
        "destinations.mail.email.port:",
        "destinations.both.webhook.url",
        "destinations.none: a destination has either",
        "destinations.Bad_Name:",
        "destinations.Bad_Name.email.host:",
        "destinations.Bad_Name.email.to.1:",
        "destinations.Bad_Name.email.tsl:",
        "routes.0.teams.0:",
        "routes.0.to: there is no destination nowhere",
        "destinations.plain: no route leads to it",
        "more:",
    ):
        assert part in said, f"{part}\n{said}"
    assert "whsec_in-the-file" not in said


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://hooks.example.com/", "can be read by everybody"),
        ("http://10.0.0.7/", "can be read by everybody"),
        ("ftp://hooks.example.com/", "https:// is expected"),
        ("https://hooks.example.com/a b", "https:// is expected"),
        ("https://hooks.example.com:99999/", "https:// is expected"),
        ("https://user:pass@hooks.example.com/", "no user, password or fragment"),
        ("https://hooks.example.com/#top", "no user, password or fragment"),
        ("https:///path", "names a host"),
        ("https://-/", "names a host"),
    ],
)
def test_addresses_that_are_refused(url: str, fault: str) -> None:
    """Plain http is for loopback, and an address is never shown: it may hold a token."""
    said = faults(SOUND.replace("https://hooks.example.com/meterstream?x=1", f'"{url}"'))
    assert fault in said
    assert url not in said


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/", "http://[::1]/", "http://localhost/x"])
def test_loopback_may_be_plain(url: str) -> None:
    """What does not leave the machine cannot be overheard."""
    assert read(SOUND.replace("https://hooks.example.com/meterstream?x=1", f'"{url}"'))


def test_plain_http_where_it_is_allowed() -> None:
    """A closed network may be said to be one."""
    plain = SOUND.replace("https://", "http://").replace("x=1", "x=1\n          allow_http: true")
    assert read(plain)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("user: meterstream", "tls: starttls"), "user and password are needed together"),
        (("user: meterstream", "user: m\n          tls: none"), "is not sent without TLS"),
        (("boss@", "ops@"), "names an address twice"),
        (("from: meterstream@example.com", "from: A <a@example.com>"), "a mail address such as"),
        (("{env: MAIL_PASSWORD}", "{file: not.there}"), "the file not.there cannot be read"),
        (("{env: MAIL_PASSWORD}", "{env: A, file: B}"), "{env: NAME} or {file: PATH}"),
        (("{env: NEW_SECRET}", "{env: MAIL_PASSWORD}"), "is no signing secret"),
        (("start: beginning", "start: sometime"), "destinations.billing.start"),
        (("start: beginning", "ca_file: x"), "destinations.billing.ca_file"),
    ],
)
def test_other_faults(change: tuple[str, str], fault: str) -> None:
    """Each fault names its place and says what is expected."""
    assert fault in faults(SOUND.replace(*change))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "is not YAML in line"),
        ("a: 1\na: 2", "a key stands twice"),
        ("destinations: {a: {}, a: {}}", "a key stands twice"),
        ("? [1, 2]\n: 3", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("", "cannot be used"),
        ("- 1", "cannot be used"),
    ],
)
def test_what_is_no_document(text: str, fault: str) -> None:
    """A key that stands twice would lose a destination, so it is a fault."""
    assert fault in faults(text)


def test_a_file_that_cannot_be_read() -> None:
    """It is named, with the reason."""
    with pytest.raises(FileInvalid, match=r"no\.yaml cannot be read: No such file"):
        read_file(Path("no.yaml"), 15.0)
    Path("latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(FileInvalid, match="not text in UTF-8"):
        read_file(Path("latin.yaml"), 15.0)
