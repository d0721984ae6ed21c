"""Signatures of webhooks, as the Standard Webhooks specification asks for them.

Source: standardwebhooks.com, specification 1.0.0: HMAC-SHA256 over `id.timestamp.payload`, in
base64, as `v1,…`; one signature for each secret, so that a receiver may change to another one.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
LEAST_SECRET_BYTES: Final = 24
MOST_SECRET_BYTES: Final = 64

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"


def key_of(secret: str) -> bytes:
    """Return the key that a secret (`whsec_` and base64) holds; ValueError if it is none.

    The message never shows the secret.
    """
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if encoded == secret or not LEAST_SECRET_BYTES <= len(key) <= MOST_SECRET_BYTES:
        raise ValueError(
            f"is no signing secret: {SECRET_PREFIX} and the base64 of {LEAST_SECRET_BYTES} to"
            f" {MOST_SECRET_BYTES} random bytes are expected"
        )
    return key


def signed_headers(
    keys: Iterable[bytes], message_id: str, timestamp_s: int, payload: bytes
) -> dict[str, str]:
    """Return the three headers of one attempt; `timestamp_s` is that of the attempt."""
    content = b".".join((message_id.encode(), str(timestamp_s).encode(), payload))
    signatures = (
        "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        for key in keys
    )
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp_s),
        SIGNATURE_HEADER: " ".join(signatures),
    }
