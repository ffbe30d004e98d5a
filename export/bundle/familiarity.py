"""Learn what the pool's texts are like, so that a bundle tells one unlike them: scores from some texts, the threshold from others.

A text's score has two parts. Its tokens: the log of each one's share in texts in general over its share in the pool. A pool of some
hundred texts lacks most words that it could have, so half of a token's share here is that in general. Vocabularies list their
tokens by frequency, roughly, and word frequencies fall as one over the rank (Zipf's law); so the share in general needs no corpus.
And what it is about: its distance from the pool in the student's middle layer (`distance.py`), for networks that have one.
Axes: N texts, H hidden width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tokenizers import Tokenizer

from potstill.contract.bundle import TOKENIZER_FILE
from potstill.contract.promises.familiarity import FORMAT, Familiarity, fewest_held_out, rank_of_threshold, unfamiliarity_of
from potstill.export.bundle.distance import STATE, fit_gaussian, with_distance, with_state
from potstill.export.gate.forms import Candidate
from potstill.export.gate.source import ExportSource
from potstill.serve.runtime.denormals import with_denormals_as_zero
from potstill.serve.runtime.session import DISTANCE, open_session
from potstill.serve.runtime.tokenizer import Feeds

OWN_SHARE = 0.5  # of a token's share in the pool that is counted there; chosen in benchmarks/promises/unfamiliar.py
FLAT_RANKS = 100  # ids at the beginning of a vocabulary are hardly sorted, so their shares are nearly equal
DIGITS = 4  # decimals of a score


@dataclass(frozen=True)
class FamiliarGraph:
    """What a bundle knows of the pool, and its graph, which may have a second output for it."""

    familiarity: Familiarity | None  # None: too few held-out texts
    model: onnx.ModelProto


@dataclass(frozen=True)
class _Pool:
    """The texts of both sides: token ids, and the graph's inputs."""

    counted: list[Feeds]
    held_out: list[Feeds]
    n_tokens: int  # of the vocabulary
    frame: list[int]  # ids that every text has


def fit_familiarity(chosen: Candidate, source: ExportSource, rate: float, scratch: Path, threads: int = 1) -> FamiliarGraph:
    """Learn what the pool is like, and choose the threshold above which a text is called unfamiliar.

    The pool is the calibration set and the training texts of the gate. The threshold is chosen on the validation texts, which the
    student was not trained on.

    Args:
        chosen: the form that is shipped.
        source: the checkpoint's content; its vocabulary is the one that is shipped.
        rate: largest share of texts like the validation texts that is called unfamiliar, on average; above 0 and below 1.
        scratch: a folder for graphs.
        threads: texts answered at a time.
    """
    on = source.gate
    held_out, counted = on.feeds[: on.n_validation], [*source.calibration, *on.feeds[on.n_validation :]]
    if len(held_out) < fewest_held_out(rate) or not counted:
        return FamiliarGraph(None, chosen.model)
    n_tokens = Tokenizer.from_file(str(source.checkpoint / TOKENIZER_FILE)).get_vocab_size()
    pool = _Pool(counted, held_out, n_tokens, _ids(source.tokenize.ids("", "" if source.student.target else None)))
    weight, model = _with_distance(chosen, pool, scratch, threads)
    scores = _scores(pool, counted)
    known = Familiarity(
        format=FORMAT, rate=rate, threshold=0.0, n=len(held_out), n_counted=len(counted), tokens=sorted(scores),
        scores=[scores[token] for token in sorted(scores)], unseen=round(-math.log(1 - OWN_SHARE), DIGITS), distance_weight=weight,
    )  # fmt: skip
    score_of = unfamiliarity_of(known)
    distances = np.zeros(len(held_out))
    if weight:
        squared = _run(_saved(model, scratch), held_out, DISTANCE, threads)
        distances = np.array([math.sqrt(max(0.0, one.item(0))) for one in squared])
    found = sorted(score_of(_ids(feeds), distance) for feeds, distance in zip(held_out, distances.tolist(), strict=True))
    fields = {name: getattr(known, name) for name in known.__struct_fields__}
    return FamiliarGraph(Familiarity(**{**fields, "threshold": found[rank_of_threshold(len(found), rate) - 1]}), model)


def _with_distance(chosen: Candidate, pool: _Pool, scratch: Path, threads: int) -> tuple[float, onnx.ModelProto]:
    """(weight of the distance, 0 if there is none; the graph that gives it).

    Over texts that a half of the pool has not seen, tokens and distance vary equally then.
    """
    stated = with_state(chosen.model)
    if stated is None:
        return 0.0, chosen.model
    rows = _run(_saved(stated, scratch), pool.counted, STATE, threads)
    if any(row.ndim != 2 for row in rows):
        return 0.0, chosen.model
    states = np.concatenate(rows)
    gaussian = fit_gaussian(states)
    halves = [fit_gaussian(states[start::2]) for start in (0, 1)]
    if gaussian is None or halves[0] is None or halves[1] is None:
        return 0.0, chosen.model
    distances = np.concatenate([halves[0].distances(states[1::2]), halves[1].distances(states[0::2])])
    means = [_means(pool, pool.counted[start::2], pool.counted[1 - start :: 2]) for start in (0, 1)]
    weight = float(np.std(np.concatenate(means)) / np.std(distances)) if np.std(distances) > 0 else 0.0
    if not 0 < weight < 1:  # a state of numbers that hardly differ, or differ without bound
        return 0.0, chosen.model
    return float(f"{weight:.6g}"), with_distance(stated, gaussian)


def _means(pool: _Pool, counted: Sequence[Feeds], others: Sequence[Feeds]) -> NDArray[np.float64]:
    """The mean token scores of other texts than those counted, float64 [N]."""
    scores, unseen = _scores(pool, counted), -math.log(1 - OWN_SHARE)
    return np.array([np.mean([scores.get(token, unseen) for token in _ids(feeds)]) for feeds in others])


def _scores(pool: _Pool, texts: Sequence[Feeds]) -> dict[int, float]:
    """The scores of the tokens in these texts, by id; what every text has tells nothing, and scores 0."""
    counts = Counter(token for feeds in texts for token in _ids(feeds))
    total = sum(counts.values())
    scale = 1 / math.fsum(1 / (rank + FLAT_RANKS) for rank in range(pool.n_tokens))
    scores = {}
    for token, n in counts.items():
        general = scale / (token + FLAT_RANKS)
        scores[token] = round(math.log(general / (OWN_SHARE * n / total + (1 - OWN_SHARE) * general)), DIGITS)
    return scores | dict.fromkeys(pool.frame, 0.0)


def _ids(feeds: Feeds) -> list[int]:
    """The token ids of one text."""
    ids: list[int] = feeds["input_ids"][0].tolist()
    return ids


def _saved(model: onnx.ModelProto, scratch: Path) -> Path:
    """Write a graph into the scratch folder."""
    path = scratch / "familiarity.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def _run(model: Path, feeds: Sequence[Feeds], output: str, threads: int) -> list[NDArray[np.float32]]:
    """One output for each text alone, as it is served."""
    session = open_session(model)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda feed: with_denormals_as_zero(session.run, [output], feed)[0], feeds))
