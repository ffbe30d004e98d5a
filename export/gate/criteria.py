"""The gate: what quantization costs, and whether that is little enough.

Scores of a form are on the validation texts alone. Which labels it keeps is measured on more: on training texts, and on a pool's,
as long as the quantizer has not seen them. What a form changes in an answer needs no text that the student has not seen.

Every form of the model answers the same texts through the session and tokenizer that will serve it. Axes: N texts, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from potstill.contract.scores.metrics import difference, ece, log_loss, macro_f1
from potstill.export.config import DYNAMIC, ExportConfig
from potstill.export.gate.quality import FormQuality
from potstill.export.gate.speed import TextPair
from potstill.serve.runtime.classifier import softmax
from potstill.serve.runtime.session import open_session
from potstill.serve.runtime.tokenizer import Feeds, padded

LEVEL = 0.05  # a form is refused when chance does as much in fewer than one of twenty such sets of texts


def max_chance_flips(n: int, rate: float) -> int:
    """The most texts of n that chance lets flip where each flips with this rate: more have a probability of at most `LEVEL`.

    An exact binomial test, one-sided: refusing from one flip more on is right in all but `LEVEL` of the cases.

    Args:
        n: texts, at least 0.
        rate: of a flip, 0 to 1; 0 explains none.
    """
    at_least = 1.0  # P(X >= k)
    for k in range(n + 1):
        at_least -= _probability(k, n, rate)  # now P(X >= k + 1)
        if at_least <= LEVEL:
            return k
    return n


def _probability(k: int, n: int, rate: float) -> float:
    """Of k flips among n, each with this rate."""
    if rate in (0.0, 1.0):
        return float(k == n * rate)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(rate) + (n - k) * math.log1p(-rate))


BATCH = 8  # texts side by side when the change with the batch is measured
N_BATCHES = 8
EXTRA_PADDING = 16  # tokens added beyond the longest text of a batch, as far as the student reads
ROUNDING = 1e-6  # a change of a probability up to here is that of float32 sums in another order, and no reason to refuse


@dataclass(frozen=True)
class GateTexts:
    """The gate's texts, those of validation first, and what the teacher said of these."""

    asks: list[TextPair]  # N
    feeds: list[Feeds]  # N, as the graph is fed
    targets: NDArray[np.float64]  # [n_validation, C], soft labels
    majority: NDArray[np.int64]  # [n_validation]
    pad_id: int
    max_tokens: int  # no caller pads beyond, and some networks have no more positions

    @property
    def n_validation(self) -> int:
        """How many of the texts are of the validation split."""
        return len(self.majority)


def logits(model: Path, feeds: Sequence[Feeds], threads: int) -> NDArray[np.float32]:
    """Answers of a model file, each text alone as when it is served, float32 [N, C]; `threads` texts at once."""
    session = open_session(model)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(lambda feed: session.run(None, feed)[0], feeds)))


def measure(
    variant: str, model: Path, found: NDArray[np.float32], reference: NDArray[np.float32], on: GateTexts, temperature: float
) -> FormQuality:
    """The form's row of the table, not yet timed nor judged.

    Args:
        variant: name of the form.
        model: its file.
        found: its logits [N, C].
        reference: the float graph's logits [N, C].
        on: the gate's texts.
        temperature: that turns logits into probabilities.
    """
    probs, wanted = softmax(found, temperature), softmax(reference, temperature)
    held, held_wanted = probs[: on.n_validation], wanted[: on.n_validation]
    drop = difference(macro_f1, held_wanted, held, on.majority)
    flips = int(np.sum(probs.argmax(axis=1) != wanted.argmax(axis=1)))
    batch_change, padding_change = batch_effects(model, found, on, temperature)
    return FormQuality(
        variant=variant,
        bytes=model.stat().st_size,
        ms_p50=0.0,
        n=len(found),
        macro_f1=macro_f1(held, on.majority),
        log_loss=log_loss(held, on.majority),
        ece=ece(held, on.majority),
        macro_f1_drop=drop.value,
        macro_f1_drop_low=drop.low,
        agreement=1 - flips / len(found),
        flips=flips,
        prob_change_max=float(np.abs(probs - wanted).max()),
        batch_change_max=batch_change,
        padding_change_max=padding_change,
        operators={},
    )


def batch_effects(model: Path, alone: NDArray[np.float32], on: GateTexts, temperature: float) -> tuple[float, float]:
    """The largest change of a probability (in a batch of texts of one length, in a padded batch of any), from answers alone.

    Batches of one length hold two texts or more; where no two texts are of one length, a text stands beside itself.
    """
    session = open_session(model)
    by_length = sorted(range(len(on.feeds)), key=lambda i: on.feeds[i]["input_ids"].shape[1])
    even = [group for group in _groups(by_length, on.feeds) if len(group) > 1] or [[by_length[0]] * 2]
    mixed = [list(range(start, min(start + BATCH, len(on.feeds)))) for start in range(0, len(on.feeds), BATCH)]
    return (
        _change(session, alone, on, temperature, even[:: max(1, len(even) // N_BATCHES)], 0),
        _change(session, alone, on, temperature, mixed[:: max(1, len(mixed) // N_BATCHES)], EXTRA_PADDING),
    )


def _groups(by_length: list[int], feeds: Sequence[Feeds]) -> list[list[int]]:
    """Texts of one length side by side, at most `BATCH` of them."""
    groups: list[list[int]] = []
    for i in by_length:
        last = groups[-1] if groups else []
        if last and len(last) < BATCH and feeds[last[0]]["input_ids"].shape == feeds[i]["input_ids"].shape:
            last.append(i)
        else:
            groups.append([i])
    return groups


def _change(
    session: ort.InferenceSession,
    alone: NDArray[np.float32],
    on: GateTexts,
    temperature: float,
    groups: list[list[int]],
    extra: int,
) -> float:
    """The largest change of a probability over groups of texts, each one batch; `extra` tokens of padding."""
    change = 0.0
    for group in groups:
        feeds = [on.feeds[i] for i in group]
        longest = max(feed["input_ids"].shape[1] for feed in feeds)
        found = session.run(None, padded(feeds, on.pad_id, max(longest, min(longest + extra, on.max_tokens))))[0]
        change = max(change, float(np.abs(softmax(found, temperature) - softmax(alone[group], temperature)).max()))
    return change


def is_invariant(form: FormQuality) -> bool:
    """Whether an answer is the same alone and in any batch: to the bit beside others, and but for rounding when it is padded.

    Where ranges come from the batch no measurement says so.
    """
    return form.variant != DYNAMIC and form.batch_change_max == 0 and form.padding_change_max <= ROUNDING


def problem(form: FormQuality, config: ExportConfig) -> str:
    """Why a form is not good enough, with the numbers, or nothing.

    Agreement and macro-F1 are held against what chance does on as many texts: `gate/noise.py`, and the bootstrap interval.
    """
    most = max_chance_flips(form.n, 1 - config.min_agreement)
    if not form.macro_f1_drop_low <= config.max_drop:  # this way round, NaN is refused too
        lost = f"macro-F1 {form.macro_f1:.4f} is {form.macro_f1_drop:.4f} below float"
        return f"{lost}, and by at least {form.macro_f1_drop_low:.4f} whatever texts chance had drawn; allowed: {config.max_drop:g}"
    if form.flips > most:
        rate = f"where each keeps it with {config.min_agreement:g} chance explains {most}"
        return f"{form.flips} of {form.n} texts ({1 - form.agreement:.2%}) change their label; {rate}"
    if not form.prob_change_max <= config.max_change:
        return f"a probability moves by {form.prob_change_max:.3f}; at most {config.max_change:g} is allowed"
    moved = max(form.batch_change_max, form.padding_change_max)
    if config.variant != form.variant and (form.variant == DYNAMIC or not moved <= ROUNDING):
        return f"an answer depends on what shares its batch ({moved:.2g} of a probability); take it with --variant {form.variant}"
    return ""


def note(form: FormQuality, config: ExportConfig) -> str:
    """What chance had to explain of a form that passed, or nothing."""
    said = []
    if form.agreement < config.min_agreement:
        said.append(f"{form.flips} of {form.n} texts change their label")
    if form.macro_f1_drop > config.max_drop:
        said.append(f"macro-F1 is {form.macro_f1_drop:.4f} below float")
    return f"{' and '.join(said)}, within what chance does on so few texts; more would tell (--pool)" if said else ""
