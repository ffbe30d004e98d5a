"""The gate: what quantization costs, and whether that is little enough.

It is measured on the validation texts and, where these are few, on training texts too: what a form changes in an answer needs no
text that the student has not seen, only texts that the quantizer has not seen. Scores of a form are on validation alone.

Every form of the model answers the same texts through the session and tokenizer that will serve it. Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from contract.decode import Strict
from contract.errors import UserError
from contract.metrics import ece, log_loss, macro_f1
from contract.soft_label import SoftLabel
from export.graph import one_torch_thread, quiet
from serve.classifier import softmax
from serve.session import open_session
from serve.tokenize import Feeds

PARITY_TEXTS = 128  # an export is wrong on all texts or on none, so torch need not answer more
PARITY = 1e-3  # largest accepted difference of a probability between torch and the float graph
BATCH = 8  # texts side by side when the change with the batch is measured
N_BATCHES = 4
EXTRA_PADDING = 16  # tokens added beyond the longest text of a batch
INVARIANT = 1e-6  # a probability that moves less than this is the same one: float32 ends there


@dataclass(frozen=True)
class GateTexts:
    """The gate's texts as the graph is fed, those of validation first, and what the teacher said of them."""

    feeds: list[Feeds]
    n_validation: int
    targets: NDArray[np.float64]  # [N, C], soft labels
    majority: NDArray[np.int64]  # [N]
    pad_id: int


class Form(Strict):
    """One form of the model on the gate's texts."""

    variant: str
    n: int
    macro_f1: float  # against the soft labels' majority
    log_loss: float  # against the same, in nats
    ece: float
    agreement: float  # share of texts with the float graph's label
    prob_change_max: float  # against the float graph
    batch_change_max: float  # of a probability, from sharing a padded batch
    bytes: int  # of the model file
    problem: str = ""  # why the form was refused; empty if it passed


class Quality(Strict):
    """`quality.json`: which form was chosen, and the evidence."""

    variant: str
    n_validation: int  # of the gate's texts; the others are training texts that the quantizer did not see
    torch_change_max: float  # of a probability, between torch and the float graph
    max_drop: float
    min_agreement: float
    temperature: float
    onnxruntime: str
    cpu: str
    forms: list[Form]


def gate_texts(rows: Sequence[SoftLabel], labels: list[str], feeds: list[Feeds], n_validation: int, pad_id: int) -> GateTexts:
    """The rows and their feeds in the order of the labels."""
    targets = np.array([[row.probs[name] for name in labels] for row in rows])
    return GateTexts(feeds, n_validation, targets, np.array([labels.index(row.majority) for row in rows]), pad_id)


def torch_logits(checkpoint: Path, feeds: Sequence[Feeds]) -> NDArray[np.float32]:
    """The checkpoint's own answers, float32 [N, C]."""
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).eval()
    with one_torch_thread(), torch.inference_mode():
        rows = [model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits.numpy() for feed in feeds]
    return np.concatenate(rows)


def check_parity(checkpoint: Path, feeds: Sequence[Feeds], found: NDArray[np.float32]) -> float:
    """The largest difference of a probability between torch and the float graph, on the first texts.

    Raises:
        UserError: if it is not small.
    """
    expected = torch_logits(checkpoint, feeds[:PARITY_TEXTS])
    change = float(np.abs(softmax(expected, 1.0) - softmax(found[:PARITY_TEXTS], 1.0)).max())
    if not change <= PARITY:  # this way round, NaN is refused too
        raise UserError(
            f"{checkpoint}: its float graph differs from torch by {change:.3g} in a probability; at most {PARITY:g} is right"
        )
    return change


def logits(model: Path, feeds: Sequence[Feeds], threads: int) -> NDArray[np.float32]:
    """Answers of a model file, each text alone as when it is served, float32 [N, C]; `threads` texts at once."""
    session = open_session(model)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(lambda feed: session.run(None, feed)[0], feeds)))


def measure(
    variant: str, model: Path, found: NDArray[np.float32], reference: NDArray[np.float32], on: GateTexts, temperature: float
) -> Form:
    """The form's row of the table, not yet judged.

    Args:
        variant: name of the form.
        model: its file.
        found: its logits [N, C].
        reference: the float graph's logits [N, C].
        on: the gate's texts.
        temperature: that turns logits into probabilities.
    """
    probs, wanted = softmax(found, temperature), softmax(reference, temperature)
    return Form(
        variant=variant,
        n=len(found),
        macro_f1=macro_f1(probs, on.majority),
        log_loss=log_loss(probs, on.majority),
        ece=ece(probs, on.majority),
        agreement=float(np.mean(probs.argmax(axis=1) == wanted.argmax(axis=1))),
        prob_change_max=float(np.abs(probs - wanted).max()),
        batch_change_max=batch_change(model, found, on, temperature),
        bytes=model.stat().st_size,
    )


def batch_change(model: Path, alone: NDArray[np.float32], on: GateTexts, temperature: float) -> float:
    """The largest change of a probability when texts share a batch and are padded, against answers given alone."""
    session = open_session(model)
    change = 0.0
    for start in range(0, min(len(on.feeds), BATCH * N_BATCHES), BATCH):
        group = on.feeds[start : start + BATCH]
        found = session.run(None, padded(group, on.pad_id))[0]
        change = max(change, float(np.abs(softmax(found, temperature) - softmax(alone[start : start + BATCH], temperature)).max()))
    return change


def padded(feeds: Sequence[Feeds], pad_id: int) -> Feeds:
    """One batch of texts, int64 [B, T]; the padding is masked and goes beyond the longest text."""
    longest = max(feed["input_ids"].shape[1] for feed in feeds) + EXTRA_PADDING
    fill = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0}
    return {
        name: np.concatenate(
            [np.pad(feed[name], ((0, 0), (0, longest - feed[name].shape[1])), constant_values=fill[name]) for feed in feeds]
        )
        for name in feeds[0]
    }


def problem(form: Form, reference: Form, max_drop: float, min_agreement: float) -> str:
    """Why a form is not good enough, with the numbers, or nothing."""
    if not form.macro_f1 >= reference.macro_f1 - max_drop:
        lost = f"macro-F1 {form.macro_f1:.4f} is {reference.macro_f1 - form.macro_f1:.4f} below float"
        return f"{lost}, at most {max_drop:g} is allowed"
    if not form.agreement >= min_agreement:
        return f"{form.agreement:.4f} of {form.n} texts keep float's label, at least {min_agreement:g} must"
    return ""
