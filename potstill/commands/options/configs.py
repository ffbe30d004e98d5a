"""Between a command's options and the configurations of the stages, whose fields and defaults they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C")


def config_of(kind: Callable[..., C], options: Mapping[str, Any]) -> C:
    """A configuration dataclass, filled with the options that are named like its fields."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # every configuration is a dataclass
    return kind(**{name: value for name, value in options.items() if name in names})


def stacked(command: F, options: Iterable[Callable[[F], F]]) -> F:
    """The command with the options, listed in that order."""
    for option in reversed(list(options)):
        command = option(command)
    return command
