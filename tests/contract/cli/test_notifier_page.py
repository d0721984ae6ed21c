"""docs/notifier.md shows what works, and names only what there is."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.contract.cli.test_operations_page import TEXTS, VARIES
from tests.support.notices import SECRET

from meterstream.cli.settings_reference import SERVICES
from meterstream.notifier.file import read_file
from meterstream.notifier.signing import key_of, signed_headers
from meterstream.schemas.metrics import METRICS
from meterstream.schemas.variables import variables_of
from meterstream.streams.settings import PREFIX

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/notifier.md").read_text(encoding="utf-8")


def test_the_file_that_is_shown_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of destinations and routes has no fault."""
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "password").write_text("sesame")
    monkeypatch.setenv("BILLING_HOOK_SECRET", SECRET)
    file = tmp_path / "notifier.yaml"
    file.write_text(shown.replace("/run/secrets/smtp-password", str(tmp_path / "password")))
    billing, mail = read_file(file, 15.0)
    assert (billing.name, len(billing.routes)) == ("billing", 1)
    assert (mail.name, len(mail.routes)) == ("ops-mail", 2)


def test_the_verification_that_is_shown_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sound requests pass; others with another body, an old time or a wrong secret do not."""
    code = PAGE.partition("<!-- verify -->\n```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(code), "docs/notifier.md", "exec"), names)  # noqa: S102 - our page
    verify = names["verify"]
    monkeypatch.setattr("time.time", lambda: 1_795_000_000.0)
    other = "whsec_" + "A" * 32
    headers = signed_headers([key_of(other), key_of(SECRET)], "ntf_1", 1_795_000_000, b"{}")
    assert verify(SECRET, headers, b"{}")
    assert verify(other, headers, b"{}")
    assert not verify("whsec_" + "B" * 32, headers, b"{}")
    assert not verify(SECRET, headers, b"{ }")
    assert not verify(SECRET, {**headers, "webhook-id": "ntf_2"}, b"{}")
    assert not verify(SECRET, {**headers, "webhook-signature": "v1,é v2,x "}, b"{}")
    old = signed_headers([key_of(SECRET)], "ntf_1", 1_794_999_000, b"{}")
    assert not verify(SECRET, old, b"{}")


def test_settings_and_metrics_exist() -> None:
    """Every variable and metric that is named is one."""
    known = {each.name for kind in SERVICES.values() for each in variables_of(kind, PREFIX)}
    assert set(re.findall(r"\bMETERSTREAM_[A-Z_]*[A-Z]", PAGE)) <= known
    assert set(re.findall(r"\bmeterstream_[a-z_]+", PAGE)) <= {each.full_name for each in METRICS}


@pytest.mark.parametrize(
    "line", re.findall(r"^```text\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
)
def test_log_lines_are_those_of_the_code(line: str) -> None:
    """What a log line is quoted with, apart from what varies, is a text of the code."""
    assert VARIES in line
    assert any(line.removesuffix(f" {VARIES}") in text for text in TEXTS), line
