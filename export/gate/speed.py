"""Time the forms of a model side by side, and cache the times.

Forms are timed in turns, text by text, so that other work on the machine slows all of them alike. The cache is keyed by the forms'
bytes: a second export of a checkpoint on the same machine finds the same times, and so writes the same bundle.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import onnxruntime as ort

from potstill.contract.errors import UserError
from potstill.contract.files import atomic, digest
from potstill.contract.system.machine import cpu_name
from potstill.serve.runtime.denormals import with_denormals_as_zero
from potstill.serve.runtime.session import open_session
from potstill.serve.runtime.tokenizer import TextTokenizer

N_TEXTS = 96  # timed texts, at equal steps through those given
ROUNDS = 2  # passes over the texts
N_WARM_UP = 4  # answers before the timing starts
METHOD = 1  # version of the timing method; raise it to invalidate cached times

TextPair = tuple[str, str | None]  # a text and its target, None for tasks without targets
TimedForm = tuple[Path, TextTokenizer]  # a form's file and its tokenizer


def answer_times(forms: Mapping[str, TimedForm], texts: Sequence[TextPair], cache: Path | None = None) -> dict[str, float]:
    """Median milliseconds of one answer, text to logits on one thread, by name of the form.

    Args:
        forms: at least one, by name.
        texts: at least one.
        cache: folder of cached times; None for :func:`cache_folder`.
    """
    folder = cache or cache_folder()
    digests = {name: digest.of_file(model) for name, (model, _) in forms.items()}
    key = [METHOD, digests, cpu_name(), ort.__version__, [list(text) for text in _spread(texts)]]
    path = folder / f"{digest.of_value(key)}.json"
    if path.is_file():
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, float])
        except msgspec.MsgspecError:
            path.unlink()  # a damaged file: time again
    times = _time(forms, _spread(texts))
    try:
        atomic.write_file(path, msgspec.json.encode(times))
    except UserError:
        return times  # without a cache a second export may differ in its times, nothing worse
    return times


def cache_folder() -> Path:
    """The folder of cached times: `potstill/answer_times` in `XDG_CACHE_HOME`, or in `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "potstill" / "answer_times"


def _time(forms: Mapping[str, TimedForm], texts: Sequence[TextPair]) -> dict[str, float]:
    """Time the forms in turns; medians in ms, rounded to the microsecond."""
    opened = {name: (open_session(model), tokenize) for name, (model, tokenize) in forms.items()}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for number, (text, target) in enumerate([*list(texts[:1]) * N_WARM_UP, *list(texts) * ROUNDS]):
        for name, (session, tokenize) in opened.items():
            began = time.perf_counter()
            with_denormals_as_zero(session.run, None, tokenize.ids(text, target))
            if number >= N_WARM_UP:
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: round(statistics.median(found), 3) for name, found in times.items()}


def _spread(texts: Sequence[TextPair]) -> list[TextPair]:
    """Take at most `N_TEXTS` of the texts, at equal steps."""
    n = min(N_TEXTS, len(texts))
    return [texts[i * len(texts) // n] for i in range(n)]
