"""Errors that a person can fix. Any other exception is a bug, and its traceback shows.

UserError                 one line on stderr, exit code 1
├── FormatError           a file breaks its format: which file, where in it, what is wrong
├── MissingExtraError     a stage needs packages that are not installed; the message has the install command
└── StoppedError          a person stopped the work; finished work is kept, and the message says how to resume
"""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """An error that a person can fix. The message says where, what was found, what is allowed, and the next step."""


class FormatError(UserError):
    """A file breaks a rule of its format; prints as ``file: place: problem``."""

    def __init__(self, path: Path | str, place: str, problem: str) -> None:
        """Build the message.

        Args:
            path: the file.
            place: where in the file, such as a line or a field; may be empty.
            problem: what was found, what is allowed, and what to do.
        """
        self.path, self.place, self.problem = Path(path), place, problem
        super().__init__(": ".join(part for part in (str(path), place, problem) if part))


class MissingExtraError(UserError):
    """A stage needs packages that are not installed."""

    def __init__(self, module: str, extra: str) -> None:
        """Build the message.

        Args:
            module: the module whose import failed.
            extra: the extra of this project that installs it.
        """
        self.module, self.extra = module, extra
        super().__init__(f"the package {module!r} is not installed; install it with: pip install 'potstill[{extra}]'")


class StoppedError(UserError):
    """The work was stopped on request and can be resumed."""


# Words of messages.


def count_of(n: int, noun: str, plural: str = "") -> str:
    """The number with its noun: `1 text`, `0 texts`.

    Args:
        n: 0 or more.
        noun: of one.
        plural: of others; empty: the noun with an s.
    """
    return f"{n} {noun if n == 1 else plural or noun + 's'}"
