"""Making a cascade: one bundle of two, in which the fast one answers what it is sure of, and the other one the rest.

How it answers is in `classifier.py`. Both graphs read every text alone, so a cascade is as batch-invariant as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import (
    FAST_MODEL_FILE,
    FAST_TOKENIZER_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Cascade,
    Golden,
    Manifest,
    read_golden,
    write_golden,
    write_manifest,
    write_sums,
)
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.scores import metrics
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.cores import usable_cores
from potstill.contract.texts import Text, read_texts
from potstill.serve.offline.cascade_switch import Answered, choose, held_out_loss
from potstill.serve.runtime.classifier import Classifier
from potstill.serve.runtime.scorer import Scorer
from potstill.serve.runtime.session import this_machine

CARD_FILE, CARD_TITLE = "README.md", "## Cascade"


@dataclass(frozen=True)
class CascadeConfig:
    """What a cascade may cost.

    Raises:
        UserError: if the loss is out of its range.
    """

    max_loss: float = 0.005  # of macro-F1 where the texts have gold labels, else of agreement with the slow graph; 0 to 1
    workers: int | None = None  # texts answered at once; None: the usable cores

    def __post_init__(self) -> None:
        """Refuse what is no loss; raises UserError."""
        if not 0 <= self.max_loss <= 1:
            raise UserError(f"max-loss is {self.max_loss:g}; it must be from 0 to 1")


@dataclass(frozen=True)
class CascadeReport:
    """What was chosen, and what it costs."""

    bundle: Path
    cascade: Cascade
    scores: dict[str, float]  # of the measure, by who answers
    skipped: str  # a line on rows passed over; empty if none was

    def as_text(self) -> str:
        """A few lines for a person."""
        cascade = self.cascade
        what = "macro-F1 on gold labels" if cascade.measure == "macro_f1" else "agreement with the slow graph"
        table = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items())
        return "\n".join(
            [
                f"{what}, {cascade.n} texts: {table}",
                f"the fast graph answers {cascade.share:.1%} of them, where its label has at least {cascade.sure:.3f}",
                f"loss {cascade.loss:+.4f}, at most {cascade.max_loss:g} is allowed; "
                f"with the switch chosen on one half and measured on the other {cascade.loss_held_out:+.4f}",
                f"{self.bundle}: thresholds are those of the two bundles; label sets it has none",
            ]
        )


_CASCADE = CascadeConfig()


def cascade_bundle(
    fast: str | Path, slow: str | Path, texts: str | Path, out: str | Path, config: CascadeConfig = _CASCADE
) -> CascadeReport:
    """Join two bundles of one task into a cascade, with the switch that loses at most what is allowed on the texts.

    The manifest, the card and the files for other tools are the slow bundle's; label sets and the promise of a precision go,
    since those were measured on other answers.

    Args:
        fast: the bundle that answers first, a static student say.
        slow: the bundle that answers the rest.
        texts: a file of texts that neither student has been trained on; with gold labels if macro-F1 is to be kept.
        out: the folder to write; one that is there is replaced when the new one is whole.
        config: how.
    Raises:
        FormatError: if a bundle or the texts are malformed.
        UserError: if the bundles do not fit each other, no switch loses so little, or the disk refuses.
    """
    fast, slow, out = Path(fast), Path(slow), Path(out)
    if out.exists() and not (out / MANIFEST_FILE).is_file() and any(out.iterdir()):
        raise UserError(f"{out}: is a folder with other files; name a bundle, or a place where nothing is yet")
    with Classifier.open(fast) as quick, Classifier.open(slow) as exact:
        _check_fit(fast, quick.manifest, slow, exact.manifest)
        found = read_texts(texts, labels=exact.manifest.labels, target=exact.manifest.target)
        answered = _answered(quick, exact, _judged(found.texts), config.workers or usable_cores())
        cascade = _cascade(quick.manifest, answered, config.max_loss)
        if not cascade.share:
            raise UserError(
                f"no switch loses at most {config.max_loss:g} on {cascade.n} texts: the fast bundle is wrong even where it is "
                "surest; allow more with --max-loss, or train it better"
            )
        probs = np.where(answered.fast.max(axis=1, keepdims=True) >= cascade.sure, answered.fast, answered.slow)
        manifest = _joined(exact.manifest, quick.manifest, cascade, probs, answered.gold)
        with atomic.folder(out) as folder:
            _fill(folder, fast, slow, manifest)
            write_golden(folder, _golden(read_golden(slow) + read_golden(fast), exact.scorer, quick.scorer))
            write_sums(folder)
            Classifier.open(folder).close()
    return CascadeReport(out, cascade, _scores(answered, probs), found.skipped_line())


def _check_fit(fast: Path, quick: Manifest, slow: Path, exact: Manifest) -> None:
    """Refuse two bundles that do not answer the same question; raises UserError."""
    for path, manifest in ((fast, quick), (slow, exact)):
        if manifest.cascade is not None:
            raise UserError(f"{path}: is a cascade already; join the two bundles that it was made of again")
    if quick.labels != exact.labels:
        raise UserError(
            f"{fast}: has the labels {', '.join(quick.labels)}; {slow} has {', '.join(exact.labels)}; both must be the same"
        )
    if quick.target != exact.target:
        raise UserError(f"{fast}: answers {'with' if quick.target else 'without'} a target, {slow} does not; both must be the same")


def _judged(texts: list[Text]) -> list[Text]:
    """The texts with gold labels, or all of them where none has one."""
    return [text for text in texts if text.gold is not None] or texts


def _answered(quick: Classifier, exact: Classifier, texts: list[Text], workers: int) -> Answered:
    """What both say of every text, each alone as when it is served."""
    with ThreadPoolExecutor(workers, thread_name_prefix="answer") as pool:
        fast, slow = (
            np.array(list(pool.map(lambda text, by=holder.scorer: by.probs(text.text, text.target), texts)))
            for holder in (quick, exact)
        )
    labels = exact.manifest.labels
    gold = None if texts[0].gold is None else np.array([labels.index(text.gold or "") for text in texts])
    return Answered(fast, slow, gold)


def _cascade(quick: Manifest, answered: Answered, max_loss: float) -> Cascade:
    """The chosen switch, with how the fast graph is read."""
    switch = choose(answered, max_loss)
    return Cascade(
        sure=switch.sure,
        max_tokens=quick.max_tokens,
        temperature=quick.temperature,
        thresholds=quick.thresholds,
        bias=quick.bias,
        variant=quick.variant,
        backbone=quick.provenance.backbone,
        measure=answered.measure,
        max_loss=max_loss,
        loss=switch.loss,
        loss_held_out=held_out_loss(answered, max_loss),
        share=switch.share,
        n=len(answered.fast),
    )


def _joined(
    exact: Manifest, quick: Manifest, cascade: Cascade, probs: NDArray[np.float64], gold: NDArray[np.int64] | None
) -> Manifest:
    """The slow bundle's manifest as far as it holds for the cascade too."""
    own = {} if gold is None else {"cascade": metrics.scores(probs, gold)}
    return msgspec.structs.replace(
        exact,
        batch_invariant=exact.batch_invariant and quick.batch_invariant,
        scores={**exact.scores, **own},
        precision=None,
        conformal=None,
        label_shares=None,
        machine=this_machine(),
        cascade=cascade,
    )


def _fill(folder: Path, fast: Path, slow: Path, manifest: Manifest) -> None:
    """The files of the slow bundle, the fast one's graph and tokenizer, and the joint manifest and card."""
    for path in slow.iterdir():
        if path.name != SIGNATURE_FILE:
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(fast / MODEL_FILE, folder / FAST_MODEL_FILE)
    shutil.copyfile(fast / TOKENIZER_FILE, folder / FAST_TOKENIZER_FILE)
    write_manifest(folder, manifest)
    card, cascade = folder / CARD_FILE, manifest.cascade
    if card.is_file() and cascade is not None:
        told = (
            f"`{FAST_MODEL_FILE}` answers where its label has at least {cascade.sure:.3f}: {cascade.share:.1%} of {cascade.n}"
            f" texts. That loses {cascade.loss:.4f} ({cascade.measure}). The scores above are those of `{MODEL_FILE}` alone."
        )
        card.write_text(f"{card.read_text(encoding='utf-8')}\n{CARD_TITLE}\n\n{told}\n", encoding="utf-8", newline="\n")


def _golden(rows: Sequence[Golden], exact: Scorer, quick: Scorer) -> list[Golden]:
    """The golden texts of both bundles, each once, with what either graph says of them on this machine."""
    pairs = dict.fromkeys((row.text, row.target) for row in rows)
    return [
        Golden(text=text, target=target, probs=exact.probs(text, target), fast_probs=quick.probs(text, target))
        for text, target in pairs
    ]


def _scores(answered: Answered, probs: NDArray[np.float64]) -> dict[str, float]:
    """The measure of the fast graph, the slow one and the cascade."""
    by = {"fast": answered.fast, "slow": answered.slow, "cascade": probs}
    if answered.gold is None:
        return {name: float(np.mean(rows.argmax(axis=1) == answered.slow.argmax(axis=1))) for name, rows in by.items()}
    return {name: metrics.macro_f1(rows, answered.gold) for name, rows in by.items()}
