"""Secrets of destinations: in a variable or a file, never in the file of destinations itself."""

import os
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

_EXPECTED: Final = "{env: NAME} or {file: PATH} is expected, and no secret itself"


def read_secret(value: Any) -> SecretStr:
    """Return the secret that `{env: NAME}` or `{file: PATH}` leads to; a fault never shows it."""
    if not isinstance(value, dict) or len(value) != 1:
        raise PydanticCustomError("secret", "{expected}", {"expected": _EXPECTED})
    ((kind, name),) = value.items()
    if kind not in {"env", "file"} or not isinstance(name, str):
        raise PydanticCustomError("secret", "{expected}", {"expected": _EXPECTED})
    if kind == "env":
        found = os.environ.get(name, "")
        where = f"the variable {name}"
    else:
        where = f"the file {name}"
        try:
            found = Path(name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not text in UTF-8"
            raise PydanticCustomError(
                "secret", "{where} cannot be read: {reason}", {"where": where, "reason": reason}
            ) from None
    if not found:
        raise PydanticCustomError("secret", "{where} is empty or not set", {"where": where})
    return SecretStr(found)


Secret = Annotated[SecretStr, BeforeValidator(read_secret)]
"""A secret that `{env: NAME}` or `{file: PATH}` leads to."""
