"""llama.cpp's functions, loaded by the first call: a teacher behind a server needs neither the library nor a compiler."""

from __future__ import annotations

from typing import Any

from potstill.contract.errors import MissingExtraError


def __getattr__(name: str) -> Any:
    """llama_cpp's attribute of that name (PEP 562); raises MissingExtraError if llama-cpp-python is not installed."""
    if name.startswith("__"):  # what the import system and debuggers ask every module for
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_llama_cpp(), name)


def version() -> str:
    """The installed llama-cpp-python's, which fixes the version of llama.cpp; raises MissingExtraError."""
    return str(_llama_cpp().__version__)


def _llama_cpp() -> Any:
    """The library, loaded by the first call; raises MissingExtraError."""
    try:
        import llama_cpp
    except ModuleNotFoundError as error:
        if error.name != "llama_cpp":
            raise
        raise MissingExtraError("llama_cpp", "label") from error
    return llama_cpp
