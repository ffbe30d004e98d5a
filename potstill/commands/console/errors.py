"""How a command ends when it does not end well: the line that a person reads, and the exit code; a bug keeps its traceback."""

from __future__ import annotations

import signal
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from potstill.contract.errors import MissingExtraError

_UNSHOWN = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # its classes of direction
OK, FAILED, INTERRUPTED, TERMINATED = 0, 1, 130, 143  # wrong usage exits with click's own 2

# Extras that bring each third-party module, the most fitting first. A test holds this table against pyproject.toml.
EXTRAS: dict[str, tuple[str, ...]] = {
    "OpenSSL": ("sign",),
    "accelerate": ("train", "export"),
    "cryptography": ("sign",),
    "fsspec": ("ray",),
    "httptools": ("serve", "review"),
    "httpx": ("label", "client"),
    "huggingface_hub": ("hub", "label", "train"),
    "jinja2": ("label", "client", "train", "review"),
    "llama_cpp": ("label",),
    "matplotlib": ("train",),
    "model_signing": ("sign",),
    "onnx": ("export",),
    "onnxruntime": ("serve", "export", "review"),
    "openpyxl": ("sheets",),
    "optimum": ("optimum",),
    "pyarrow": ("label", "client", "train", "export", "ray"),
    "ray": ("ray",),
    "scipy": ("label", "client", "train", "review"),
    "sklearn": ("train",),
    "snorkel": ("snorkel",),
    "sympy": ("export",),
    "tokenizers": ("serve", "export", "review"),
    "tomlkit": ("review",),
    "torch": ("train", "export"),
    "transformers": ("train", "export"),
    "uvicorn": ("serve", "review"),
    "uvloop": ("serve", "review"),
}


def missing_extra(error: ModuleNotFoundError, preferred: str | None) -> MissingExtraError | None:
    """The error to print for a module that is not installed; None if no extra brings it, so that its absence is a bug.

    Args:
        error: what the import raised.
        preferred: the extra of the command that was asked for; named unless only another extra brings the module.
    """
    module = (error.name or "").partition(".")[0]
    extras = EXTRAS.get(module)
    if extras is None:
        return None
    covered = preferred == "all" or preferred in extras
    return MissingExtraError(module, preferred if covered and preferred else extras[0])


def one_line(error: BaseException) -> str:
    """An error's message on one line that begins with the program's name."""
    return line(str(error))


def line(message: str) -> str:
    """A message on one line that begins with the program's name."""
    return "potstill: " + printable(" ".join(message.split("\n")).strip())


def tell(message: str) -> None:
    """Print a remark on stderr, with escapes for what a terminal would obey."""
    click.echo(printable(message), err=True)


def printable(text: str) -> str:
    r"""The text with everything as an escape (`\x1b`) that a terminal would obey rather than show; line ends and tabs stay.

    Names of labels, keys and files come from whoever wrote the file.
    """
    return "".join(one if one in "\n\t" or not _commands(one) else one.encode("unicode_escape").decode("ascii") for one in text)


def _commands(character: str) -> bool:
    """True for control characters, halves of surrogate pairs, line separators, and marks that turn the direction of writing."""
    return unicodedata.category(character) in _UNSHOWN or unicodedata.bidirectional(character) in _TURNS


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; code that stops well on a KeyboardInterrupt stops well on this."""


@contextmanager
def heeding_sigterm() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` inside the block, unless the program has a handler for it already."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_code(error: BaseException | None) -> int:
    """The shell's code for the signal that stopped the work: 128 plus its number."""
    while error is not None:
        if isinstance(error, Terminated):
            return TERMINATED
        error = error.__cause__
    return INTERRUPTED


def _raise(_number: int, _frame: object) -> NoReturn:
    """The signal's handler."""
    raise Terminated
