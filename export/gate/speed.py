"""How long forms of a model take for one answer, measured side by side once, and remembered.

Forms are measured in turns, text by text, so that other work on the machine slows all of them alike. What was measured is kept by
the forms' own bytes: a second export of a checkpoint on the same machine finds the same times, and so writes the same bundle.
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
from potstill.serve.runtime.session import cpu_name, open_session
from potstill.serve.runtime.tokenizer import Tokenize

N_TEXTS = 96  # at equal steps through those given
ROUNDS = 2
N_WARM_UP = 4  # answers that do not count
METHOD = 1  # counted up when times are taken in another way, so that remembered ones are not compared with new ones

TextPair = tuple[str, str | None]  # a text and what it is about
TimedForm = tuple[Path, Tokenize]  # a form's file, and the tokenizer that it answers with


def answer_times(forms: Mapping[str, TimedForm], asks: Sequence[TextPair], cache: Path | None = None) -> dict[str, float]:
    """Milliseconds of one answer, text to logits on one thread, the median over the texts, by name of the form.

    Args:
        forms: at least one, by name.
        asks: at least one text.
        cache: folder of remembered times; None: see :func:`cache_folder`.
    """
    folder = cache or cache_folder()
    digests = {name: digest.of_file(model) for name, (model, _) in forms.items()}
    made_of = [METHOD, digests, cpu_name(), ort.__version__, [list(ask) for ask in _spread(asks)]]
    path = folder / f"{digest.of_value(made_of)}.json"
    if path.is_file():
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, float])
        except msgspec.MsgspecError:
            path.unlink()  # a damaged file: measured again
    times = _measured(forms, _spread(asks))
    try:
        atomic.write_file(path, msgspec.json.encode(times))
    except UserError:
        return times  # a home folder that cannot be written costs a second export its equal bytes, and nothing else
    return times


def cache_folder() -> Path:
    """Where times are remembered: `potstill/answer_times` in `XDG_CACHE_HOME`, else in `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "potstill" / "answer_times"


def _measured(forms: Mapping[str, TimedForm], asks: Sequence[TextPair]) -> dict[str, float]:
    """The medians, in ms rounded to the microsecond, forms in turns."""
    opened = {name: (open_session(model), tokenize) for name, (model, tokenize) in forms.items()}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for number, (text, target) in enumerate([*list(asks[:1]) * N_WARM_UP, *list(asks) * ROUNDS]):
        for name, (session, tokenize) in opened.items():
            began = time.perf_counter()
            session.run(None, tokenize.ids(text, target))
            if number >= N_WARM_UP:
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: round(statistics.median(found), 3) for name, found in times.items()}


def _spread(asks: Sequence[TextPair]) -> list[TextPair]:
    """At most `N_TEXTS` of the texts, at equal steps."""
    n = min(N_TEXTS, len(asks))
    return [asks[i * len(asks) // n] for i in range(n)]
