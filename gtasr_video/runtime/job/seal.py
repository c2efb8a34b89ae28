"""Plain values in a file with their own checksum, so that what a disk has spoiled is not taken for what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

_SEAL: Final = "seal"


def sealed(values: dict[str, Any]) -> bytes:
    """Return plain JSON values as the text of a file that `unsealed` reads."""
    return json.dumps({**values, _SEAL: _checksum(values)}).encode()


def unsealed(path: Path) -> dict[str, Any]:
    """Return what `sealed` was given. Raises ValueError if the file holds anything else; OSError."""
    try:
        values = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    if not isinstance(values, dict) or values.pop(_SEAL, None) != _checksum(values):
        raise ValueError(f"{path} is not as it was written")
    return values


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def file_checksum(path: Path) -> str | None:
    """Return the SHA-256 of a file, None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
