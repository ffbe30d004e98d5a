"""The keys that let a client in, from a file or the environment; never from the command line, which everybody can read."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from potstill.contract.errors import FormatError, UserError
from potstill.serve.http.asgi import Message, Refused, header

VARIABLE = "POTSTILL_KEYS"
MIN_CHARS = 16


class ApiKeys:
    """Any one of these lets in; without any, everybody is. Only their SHA-256 is kept."""

    def __init__(self, keys: list[str]) -> None:
        """Args: keys, plain."""
        self._hashes = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._hashes)

    def allow(self, given: bytes | None) -> bool:
        """Whether a client with this key is let in. It takes as long for a wrong key as for a right one, whichever it is."""
        if not self._hashes:
            return True
        found = hashlib.sha256(given or b"").digest()
        right = False
        for known in self._hashes:
            right |= hmac.compare_digest(found, known)
        return right and given is not None


def read_keys(path: Path | None) -> ApiKeys:
    """The keys of a file, one a line, empty lines and lines that begin with # left out; without a file, those of the environment.

    Raises:
        UserError: if the file cannot be read, or a key is too short or not plain ASCII. No message shows a key.
    """
    if path is not None:
        try:
            text, where = path.read_text(encoding="ascii"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "holds characters that are not ASCII"
            raise UserError(f"{path}: cannot be read as keys: {reason}; write one key a line") from error
        if path.stat().st_mode & 0o007:
            raise FormatError(path, "", f"may be read by everybody; take that right away with: chmod o= {path}")
    else:
        text, where = os.environ.get(VARIABLE, "").replace(",", "\n"), f"the variable {VARIABLE}"
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    for number, key in enumerate(keys, 1):
        if len(key) < MIN_CHARS or not key.isascii() or not key.isprintable():
            raise UserError(
                f"{where}: key {number} is no key; one has at least {MIN_CHARS} printable ASCII characters, "
                "such as those of: openssl rand -hex 16"
            )
    if path is not None and not keys:
        raise FormatError(path, "", "holds no key; write one key a line")
    return ApiKeys(keys)


def check_key(scope: Message, keys: ApiKeys) -> None:
    """Refuse a request without a valid key, if there are keys; raises Refused: 401."""
    if not len(keys):
        return
    given = header(scope, b"x-api-key")
    scheme, _, bearer = (header(scope, b"authorization") or b"").partition(b" ")
    if given is None and scheme.lower() == b"bearer":
        given = bearer.strip()
    if not keys.allow(given):
        problem = "a key is needed" if given is None else "this key is not known"
        raise Refused(
            401,
            f"{problem}; send one as Authorization: Bearer KEY, or X-API-Key: KEY",
            [(b"www-authenticate", b"Bearer")],
            "key",
        )
