"""API keys from a file or the environment; never from the command line, which every user of the machine can read."""

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
    """The accepted API keys, kept as SHA-256; an empty set accepts every client."""

    def __init__(self, keys: list[str]) -> None:
        """Args: keys, in plain text."""
        self._hashes = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._hashes)

    def allow(self, given: bytes | None) -> bool:
        """Tell whether the key is accepted; None stands for no key. The time taken does not depend on the key."""
        if not self._hashes:
            return True
        found = hashlib.sha256(given or b"").digest()
        matches = False
        for known in self._hashes:
            matches |= hmac.compare_digest(found, known)
        return matches and given is not None


def read_keys(path: str | Path | None) -> ApiKeys:
    """Read API keys from a file, or from POTSTILL_KEYS if there is none.

    A file has one key per line; empty lines and lines that begin with # are ignored. The variable separates keys by commas.

    Raises:
        UserError: if the file cannot be read, is readable by everyone or contains no keys, or a key is too short or not
            printable ASCII. No message shows a key.
    """
    if path is not None:
        path = Path(path)
        try:
            text, where = path.read_text(encoding="ascii"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "contains non-ASCII characters"
            raise UserError(f"{path}: cannot read keys: {reason}; write one key per line") from error
        status, read_only = path.stat(), bool(os.statvfs(path).f_flag & os.ST_RDONLY)
        if too_open(status.st_mode, status.st_uid, os.geteuid(), read_only=read_only):
            raise FormatError(path, "", f"is readable by everyone; fix that with: chmod o= {path}")
    else:
        text, where = os.environ.get(VARIABLE, "").replace(",", "\n"), f"environment variable {VARIABLE}"
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    for number, key in enumerate(keys, 1):
        if len(key) < MIN_CHARS or not key.isascii() or not key.isprintable():
            raise UserError(
                f"{where}: key {number} is invalid: a key has at least {MIN_CHARS} printable ASCII characters; "
                "make one with: openssl rand -hex 16"
            )
    if path is not None and not keys:
        raise FormatError(path, "", "contains no keys; write one key per line")
    return ApiKeys(keys)


def too_open(mode: int, owner: int, user: int, *, read_only: bool) -> bool:
    """Tell whether a file of keys has rights that its reader must take away.

    A secret that root mounts read-only into a container is readable by everyone there: the process is not root, and cannot
    change it.

    Args:
        mode: of the file.
        owner: user id of the file's owner.
        user: of this process.
        read_only: the file system cannot be written.
    """
    mounted = read_only and owner == 0 and user != 0
    return bool(mode & (0o003 if mounted else 0o007))


def check_key(scope: Message, keys: ApiKeys) -> None:
    """Check the API key in a request's headers, if keys are set; raises Refused: 401."""
    if not len(keys):
        return
    given = header(scope, b"x-api-key")
    scheme, _, bearer = (header(scope, b"authorization") or b"").partition(b" ")
    if given is None and scheme.lower() == b"bearer":
        given = bearer.strip()
    if not keys.allow(given):
        problem = "an API key is required" if given is None else "unknown API key"
        raise Refused(
            401,
            f"{problem}; send it as Authorization: Bearer KEY or as X-API-Key: KEY",
            [(b"www-authenticate", b"Bearer")],
            "key",
        )
