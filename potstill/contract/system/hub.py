"""The client of the Hugging Face hub, loaded where it is needed, and its errors in a few words."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from potstill.contract.errors import MissingExtraError

LOG_IN = "log in with: hf auth login, or set HF_TOKEN"


def hub_client(extra: str) -> Any:
    """The module of the hub's client; raises MissingExtraError that names the extra."""
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ModuleNotFoundError:
        raise MissingExtraError("huggingface_hub", extra) from None
    return huggingface_hub


def hub_errors(hub: Any, *more: type[Exception]) -> tuple[type[Exception], ...]:
    """What the client raises where the hub does not do what was asked: its own errors and those of the library behind it.

    By its version that is requests, whose errors are OSErrors, or httpx, whose errors are not. Args: more, further ones.
    """
    library = importlib.import_module(type(hub.utils.get_session()).__module__.partition(".")[0])
    transport: type[Exception] = library.HTTPError if hasattr(library, "TransportError") else library.RequestException
    return OSError, transport, *more


def hub_status(error: BaseException) -> int | None:
    """The HTTP status that the hub refused with; None if it gave no answer."""
    for one in _causes(error):
        response = getattr(one, "response", None)
        if response is not None:
            return int(response.status_code)
    return None


def hub_reason(error: BaseException) -> str:
    """The reason why the hub did not do what was asked, in a few words."""
    status = hub_status(error)
    if status is not None:
        return f"the hub answered {status}"
    words = [one.strerror for one in _causes(error) if isinstance(one, OSError) and one.strerror]
    return words[0] if words else "the hub cannot be reached"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
