"""Measure a form of the model against float: scores, changed labels and probabilities, and the effect of a batch.

Scores are on the validation texts alone. Changes are measured on all texts of the gate: how a form's answer differs from float's
can be seen on any text that the quantizer has not seen. Every form answers through the session and tokenizer that will serve it.
Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from potstill.contract.scores.metrics import difference, ece, log_loss, macro_f1
from potstill.export.gate.quality import FormQuality
from potstill.export.gate.source import GateTexts, group_by_length
from potstill.serve.runtime.classifier import softmax
from potstill.serve.runtime.denormals import with_denormals_as_zero
from potstill.serve.runtime.session import open_session
from potstill.serve.runtime.tokenizer import Feeds, padded

BATCH = 8  # texts in a batch when the effect of batches is measured
N_BATCHES = 8  # about so many batches of each kind are run
EXTRA_PADDING = 16  # tokens of padding beyond the longest text of a batch, up to the student's maximum


def form_logits(model: Path, feeds: Sequence[Feeds], threads: int) -> NDArray[np.float32]:
    """Run a model file on each text alone, as it is served; float32 [N, C]. `threads` texts run at a time."""
    session = open_session(model)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(lambda feed: with_denormals_as_zero(session.run, None, feed)[0], feeds)))


def measure_form(
    variant: str, model: Path, logits: NDArray[np.float32], reference: NDArray[np.float32], on: GateTexts, temperature: float
) -> FormQuality:
    """Fill a form's row of the report; time, operators and verdict are still empty.

    Args:
        variant: name of the form.
        model: its file.
        logits: its logits [N, C].
        reference: the float graph's logits [N, C].
        on: the texts of the gate.
        temperature: divisor of the logits, above 0.
    """
    probs, float_probs = softmax(logits, temperature), softmax(reference, temperature)
    validation, float_validation = probs[: on.n_validation], float_probs[: on.n_validation]
    drop = difference(macro_f1, float_validation, validation, on.majority)
    flips = int(np.sum(probs.argmax(axis=1) != float_probs.argmax(axis=1)))
    batch_change, padding_change = batch_effects(model, logits, on, temperature)
    return FormQuality(
        variant=variant,
        bytes=model.stat().st_size,
        ms_p50=0.0,
        n=len(logits),
        macro_f1=macro_f1(validation, on.majority),
        log_loss=log_loss(validation, on.majority),
        ece=ece(validation, on.majority),
        macro_f1_drop=drop.value,
        macro_f1_drop_low=drop.low,
        agreement=1 - flips / len(logits),
        flips=flips,
        prob_change_max=float(np.abs(probs - float_probs).max()),
        batch_change_max=batch_change,
        padding_change_max=padding_change,
        operators={},
    )


def batch_effects(model: Path, alone: NDArray[np.float32], on: GateTexts, temperature: float) -> tuple[float, float]:
    """The largest change of a probability from answering in a batch instead of alone.

    Args:
        model: the form's file.
        alone: its logits [N, C], each text run alone.
        on: the texts of the gate.
        temperature: divisor of the logits, above 0.
    Returns:
        (the change in batches of texts of equal length, the change in padded batches of mixed lengths), each 0 to 1. Where no two
        texts have the same length, the shortest is batched with itself.
    """
    session = open_session(model)
    groups = group_by_length(on.feeds, BATCH)
    even = [group for group in groups if len(group) > 1] or [groups[0] * 2]
    mixed = [list(range(start, min(start + BATCH, len(on.feeds)))) for start in range(0, len(on.feeds), BATCH)]
    return (
        _largest_change(session, alone, on, temperature, even[:: max(1, len(even) // N_BATCHES)], 0),
        _largest_change(session, alone, on, temperature, mixed[:: max(1, len(mixed) // N_BATCHES)], EXTRA_PADDING),
    )


def _largest_change(
    session: ort.InferenceSession,
    alone: NDArray[np.float32],
    on: GateTexts,
    temperature: float,
    groups: list[list[int]],
    extra: int,
) -> float:
    """The largest change of a probability over groups of texts, each run as one batch with `extra` tokens of padding."""
    change = 0.0
    for group in groups:
        feeds = [on.feeds[i] for i in group]
        longest = max(feed["input_ids"].shape[1] for feed in feeds)
        batch = padded(feeds, on.pad_id, max(longest, min(longest + extra, on.max_tokens)))
        found = with_denormals_as_zero(session.run, None, batch)[0]
        change = max(change, float(np.abs(softmax(found, temperature) - softmax(alone[group], temperature)).max()))
    return change
