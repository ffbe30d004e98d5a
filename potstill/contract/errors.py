"""The errors a person can fix. Anything else that is raised is a bug, and its traceback shows.

UserError                 one line on stderr, exit code 1
├── FormatError           a file does not keep its format: which file, which place in it, what is wrong
├── MissingExtraError     a stage needs packages that are not installed: the command that installs them
└── StoppedError          a person stopped the work; what is done is kept, and the message says how to go on
"""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something that a person can fix. The message says where, what was found, what is allowed, and the next step."""


class FormatError(UserError):
    """A file breaks a promise of its format; prints as ``file: place: problem``."""

    def __init__(self, path: Path | str, place: str, problem: str) -> None:
        """Args: path of the file; place inside it (a line, a field; may be empty); problem: found, allowed, what to do."""
        self.path, self.place, self.problem = Path(path), place, problem
        super().__init__(": ".join(part for part in (str(path), place, problem) if part))


class MissingExtraError(UserError):
    """A stage's packages are not installed."""

    def __init__(self, module: str, extra: str) -> None:
        """Args: module whose import failed; extra of this project that brings it."""
        self.module, self.extra = module, extra
        super().__init__(f"the package {module!r} is not installed; install it with: pip install 'potstill[{extra}]'")


class StoppedError(UserError):
    """The work was stopped on request and can be resumed."""
