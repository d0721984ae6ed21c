"""Signatures are those of the Standard Webhooks specification."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook
from tests.support.notices import SECRET

from meterstream.notifier.signing import key_of, signed_headers

MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
PAYLOAD = b'{"test": 2432232314}'


def test_the_specification_s_own_example() -> None:
    """The vector that all of the specification's libraries are tested with."""
    headers = signed_headers([key_of(SECRET)], MESSAGE_ID, 1_614_265_330, PAYLOAD)
    assert headers == {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_secret_signs() -> None:
    """While secrets change over, receivers with either of them verify the same request."""
    other = "whsec_" + base64.b64encode(bytes(range(64))).decode()
    now_s = int(datetime.now(UTC).timestamp())
    payload = '{"name":"Zoë"}'.encode()
    headers = signed_headers([key_of(SECRET), key_of(other)], "ntf_1", now_s, payload)
    for secret in (SECRET, other):
        assert Webhook(secret).verify(payload, headers) == {"name": "Zoë"}
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = b"ntf_1." + str(now_s).encode() + b"." + payload
        mac = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
        assert f"v1,{mac}" in headers["webhook-signature"].split(" ")


@pytest.mark.parametrize(
    "secret",
    [
        SECRET.removeprefix("whsec_"),
        "whsec_",
        "whsec_tooshort",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_" + "%" * 40,
        "whsec_" + "é" * 40,
    ],
)
def test_what_is_no_secret_is_refused_and_not_shown(secret: str) -> None:
    """Too short, too long, without its prefix or not base64: said without a letter of it."""
    with pytest.raises(ValueError, match="is no signing secret") as refused:
        key_of(secret)
    assert secret.removeprefix("whsec_") not in str(refused.value) or secret == "whsec_"
