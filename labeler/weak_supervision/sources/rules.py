"""Rules of a task, and functions of a Python file, as sources: each votes on texts that it matches and abstains from others."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from potstill.contract.errors import FormatError
from potstill.contract.task import Rule
from potstill.contract.texts import Text
from potstill.labeler.weak_supervision.votes import SourceVotes, source_votes

Vote = dict[str, float] | None  # a share for each label that it names; None: an abstention
_MODULE = "potstill_labelling_functions"


def rule_votes(rules: Sequence[Rule], texts: Sequence[Text], labels: Sequence[str]) -> list[SourceVotes]:
    """The votes of each rule on all texts. Args: rules that fit the labels; texts; labels in the task's order."""
    found = []
    for rule in rules:
        matches = rule.matcher()
        votes = {text.id: {rule.label: 1.0} if matches(text.text) else None for text in texts}
        found.append(source_votes(rule.name, "rule", texts, labels, votes))
    return found


def function_votes(path: Path, texts: Sequence[Text], labels: Sequence[str]) -> list[SourceVotes]:
    """The votes of every labelling function in a Python file, which runs with this program's rights.

    A labelling function is one that the file defines, with a name that does not begin with an underscore. It takes a text, and the
    text's target if it has a second parameter. It returns the name of a label, shares by label, or None to abstain.

    Args:
        path: the file.
        texts: [N].
        labels: in the task's order.
    Raises:
        FormatError: if the file is missing or is no Python, defines no such function, or one returns anything else.
    """
    found = []
    for name, function in _functions(path).items():
        n_parameters = len(inspect.signature(function).parameters)
        votes: dict[str, Vote] = {}
        for text in texts:
            try:
                said = function(text.text, text.target) if n_parameters == 2 else function(text.text)
            except BaseException as error:  # their bug: its traceback shows, and says on which text
                error.add_note(f"in {path}, function {name}, on the text with id {text.id!r}")
                raise
            votes[text.id] = _vote(path, f"function {name}, on the text with id {text.id!r}", said, labels)
        found.append(source_votes(name, "function", texts, labels, votes))
    return found


def _functions(path: Path) -> dict[str, Callable[..., Any]]:
    """The labelling functions that a file defines, by name, in its order; raises FormatError."""
    if not path.is_file():
        raise FormatError(path, "", "no such file; name a Python file with labelling functions")
    module = _loaded(path)
    found: dict[str, Callable[..., Any]] = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == _MODULE and not name.startswith("_")
    }
    if not found:
        raise FormatError(path, "", "defines no function; write one that takes a text and returns a label or None")
    for name, function in found.items():
        n_parameters = len(inspect.signature(function).parameters)
        if n_parameters not in (1, 2):
            raise FormatError(path, f"function {name}", f"has {n_parameters} parameters; it takes a text, or a text and its target")
    return found


def _loaded(path: Path) -> ModuleType:
    """The module in a file; raises FormatError if it is not Python."""
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise FormatError(path, "", "is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses and pickling look a module up by its name
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise FormatError(path, f"line {error.lineno}", f"is not Python: {error.msg}") from None
    finally:
        del sys.modules[_MODULE]
    return module


def _vote(path: Path, place: str, said: object, labels: Sequence[str]) -> Vote:
    """What a function returned, as a vote; raises FormatError."""
    if said is None:
        return None
    if isinstance(said, str):
        said = {said: 1.0}
    if not isinstance(said, Mapping):
        raise FormatError(path, place, f"returned {said!r}; allowed: a label's name, shares by label, or None to abstain")
    return checked_vote(path, place, said, labels)


def checked_vote(path: Path, place: str, shares: Mapping[Any, Any], labels: Sequence[str]) -> dict[str, float]:
    """Shares by label as a vote; raises FormatError if one is no label, or they are not numbers from 0 up with one above 0."""
    for label, share in shares.items():
        if label not in labels:
            raise FormatError(path, place, f"{label!r} is not a label; allowed: {', '.join(labels)}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < math.inf:
            raise FormatError(path, place, f"gives {label!r} the share {share!r}; a share is a number, 0 or more")
    if not any(shares.values()):
        raise FormatError(path, place, "gives no label a share above 0; to abstain, say null or None")
    return {label: float(share) for label, share in shares.items()}
