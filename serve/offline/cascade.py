"""Build a cascade: join two bundles into one, in which the fast graph answers where it is confident and the slow one otherwise.

`runtime/classifier.py` answers with it. Both graphs read every text alone, so a cascade is as batch-invariant as they are.
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
    Measure,
    read_golden,
    write_golden,
    write_manifest,
    write_sums,
)
from potstill.contract.errors import UserError
from potstill.contract.files import atomic
from potstill.contract.promises.familiarity import FAMILIARITY_FILE
from potstill.contract.questions.head import check_one_question
from potstill.contract.scores import metrics
from potstill.contract.scores.bounds import Rule, fewest_texts
from potstill.contract.scores.switches import share_at_least
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.machine import usable_cores
from potstill.contract.system.progress import ANSWER_TEXTS, counted
from potstill.contract.texts import Text, read_texts
from potstill.serve.config import CascadeConfig
from potstill.serve.offline.cascade_threshold import CascadeProbs, certified_threshold, choose_threshold, held_out_loss, mixed
from potstill.serve.offline.certified import without_certificate
from potstill.serve.runtime.classifier import Classifier
from potstill.serve.runtime.scorer import Scorer
from potstill.serve.runtime.session import this_machine

CARD_FILE, CARD_TITLE = "README.md", "## Cascade"
WHAT: dict[Measure, str] = {
    "macro_f1": "macro-F1 on gold labels",
    "accuracy": "accuracy on gold labels",
    "agreement": "agreement with the slow graph",
}
LOST: dict[Measure, str] = {"macro_f1": "macro-F1", "accuracy": "accuracy", "agreement": "agreement with the slow graph"}


@dataclass(frozen=True)
class CascadeReport:
    """The chosen threshold and its cost."""

    bundle: Path
    cascade: Cascade
    scores: dict[str, float]  # the measure, by answerer: fast, slow, cascade
    skipped: str  # a line on skipped rows; empty if none was skipped

    def as_text(self) -> str:
        """A summary in a few lines."""
        cascade = self.cascade
        table = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items())
        return "\n".join(
            [
                f"{WHAT[cascade.measure]}, {cascade.n} texts: {table}",
                f"the fast graph answers {cascade.share:.1%} of them, where its top probability is at least {cascade.sure:.3f}"
                + _at_least(cascade),
                loss_note(cascade),
                f"{self.bundle}: keeps the label thresholds of both bundles; it has no label sets",
            ]
        )


def _at_least(cascade: Cascade) -> str:
    """The share of texts to come that the fast graph answers at least, with the confidence of the bound; empty without one."""
    if cascade.confidence is None:
        return ""
    least = 1.0 if cascade.sure == 0 else share_at_least(round(cascade.share * cascade.n), cascade.n, cascade.confidence)
    return f" (at least {least:.1%} of texts of this kind, with {cascade.confidence:.0%} confidence)"


def loss_note(cascade: Cascade) -> str:
    """A line on what is lost, and for which texts that is said."""
    if cascade.confidence is not None:
        return (
            f"lost {LOST[cascade.measure]}: at most {cascade.max_loss:g} on texts of this kind, with {cascade.confidence:.0%} "
            f"confidence; {cascade.loss:+.4f} on these"
        )
    held_out = ""
    if cascade.loss_held_out is not None:
        held_out = f" {cascade.loss_held_out:+.4f} held out (chosen on one half, measured on the other)."
    return (
        f"lost {LOST[cascade.measure]}: {cascade.loss:+.4f} on these texts, at most {cascade.max_loss:g} is allowed there;"
        f"{held_out} No bound for other texts; for one: --rule bound"
    )


_CASCADE = CascadeConfig()


def cascade_bundle(
    fast: str | Path, slow: str | Path, texts: str | Path, out: str | Path, config: CascadeConfig = _CASCADE
) -> CascadeReport:
    """Join two bundles of one task into a cascade, with the confidence threshold that keeps the loss within the limit.

    Manifest, card and the files for other tools come from the slow bundle. Label sets and the precision target are removed, since
    they were measured on other answers.

    Args:
        fast: the bundle that answers first, for example a static student.
        slow: the bundle that answers the rest.
        texts: a file of texts that neither student was trained on; with gold labels, the loss is one of accuracy (of macro-F1 by
            the point rule, as no bound holds for that), without them of agreement with the slow graph.
        out: the folder to write; an existing bundle is replaced once the new one is complete.
        config: the largest loss, how it is promised, and parallelism.
    Raises:
        FormatError: if a bundle or the texts are malformed.
        UserError: if the bundles do not fit each other, no threshold keeps the loss within the limit, or the folder cannot be
            written.
    """
    fast, slow, out = Path(fast), Path(slow), Path(out)
    if out.exists() and not (out / MANIFEST_FILE).is_file() and any(out.iterdir()):
        raise UserError(f"{out}: is a folder with other files; name a bundle or a new folder")
    with Classifier.open(fast, trust=config.trust) as quick, Classifier.open(slow, trust=config.trust) as exact:
        _check_fit(fast, quick.manifest, slow, exact.manifest)
        found = read_texts(texts, labels=exact.manifest.labels, target=exact.manifest.target)
        answered = _answered(quick, exact, _judged(found.texts), config.workers or usable_cores())
        cascade = _cascade(quick.manifest, answered, config)
        if not cascade.share:
            raise UserError(_no_threshold(cascade.n, config))
        probs = mixed(answered, cascade.sure)
        manifest = _joined(exact.manifest, quick.manifest, cascade, probs, answered.gold)
        with atomic.folder(out) as folder:
            _fill(folder, fast, slow, manifest)
            write_golden(folder, _golden(read_golden(slow) + read_golden(fast), exact.scorer, quick.scorer))
            write_sums(folder)
            Classifier.open(folder, trust=config.trust).close()
    return CascadeReport(out, cascade, _scores(answered, probs, cascade.measure), found.skipped_line())


def _check_fit(fast: Path, quick: Manifest, slow: Path, exact: Manifest) -> None:
    """Raise UserError unless both bundles answer the same question."""
    for path, manifest in ((fast, quick), (slow, exact)):
        check_one_question(path, manifest, "potstill cascade")
        if manifest.cascade is not None:
            raise UserError(f"{path}: is already a cascade; join the two bundles it was made from again")
    if quick.labels != exact.labels:
        raise UserError(
            f"{fast}: has the labels {', '.join(quick.labels)}; {slow} has {', '.join(exact.labels)}; both must be the same"
        )
    if quick.target != exact.target:
        raise UserError(f"{fast}: answers {'with' if quick.target else 'without'} a target, {slow} does not; both must be the same")


def _judged(texts: list[Text]) -> list[Text]:
    """The texts with gold labels, or all of them where none has one."""
    return [text for text in texts if text.gold is not None] or texts


def _answered(quick: Classifier, exact: Classifier, texts: list[Text], workers: int) -> CascadeProbs:
    """Both bundles' probabilities; each text runs alone, as in serving."""
    with ThreadPoolExecutor(workers, thread_name_prefix="answer") as pool:
        fast, slow = (_each_alone(name, holder, texts, pool) for name, holder in (("fast", quick), ("exact", exact)))
    labels = exact.manifest.labels
    gold = None if texts[0].gold is None else np.array([labels.index(text.gold or "") for text in texts])
    return CascadeProbs(fast, slow, gold)


def _each_alone(name: str, classifier: Classifier, texts: list[Text], pool: ThreadPoolExecutor) -> NDArray[np.float64]:
    """The probabilities of one of the bundles, float64 [N, C]."""
    rows = pool.map(lambda text: classifier.scorer.probs(text.text, text.target), texts)
    return np.array(list(counted(rows, f"{ANSWER_TEXTS} with the {name} bundle", len(texts))))


def _no_threshold(n: int, config: CascadeConfig) -> str:
    """The reason why no threshold is chosen, and what to do."""
    found = f"no threshold keeps the loss within {config.max_loss:g} on {n} texts"
    if config.rule == "bound":
        found = f"no threshold shows a loss within {config.max_loss:g} with a confidence of {config.confidence:g} on {n} texts"
        fewest = fewest_texts(1 - config.max_loss, config.confidence) if 0 < config.max_loss < 1 else 0
        if n < fewest:
            return f"{found}; that takes at least {fewest} texts without one loss: give more texts, or allow more with --max-loss"
    return f"{found}: the fast bundle is wrong even where it is most confident; allow more with --max-loss, or train it better"


def _measure(answered: CascadeProbs, rule: Rule) -> Measure:
    """What the loss is one of. There is no bound for macro-F1, which is no mean over texts."""
    if answered.gold is None:
        return "agreement"
    return "accuracy" if rule == "bound" else "macro_f1"


def _cascade(quick: Manifest, answered: CascadeProbs, config: CascadeConfig) -> Cascade:
    """The manifest entry: the chosen threshold, and how to read the fast graph's output."""
    by_bound = config.rule == "bound"
    if by_bound:
        chosen = certified_threshold(answered, config.max_loss, config.confidence)
    else:
        chosen = choose_threshold(answered, config.max_loss)
    return Cascade(
        sure=chosen.sure,
        max_tokens=quick.max_tokens,
        temperature=quick.temperature,
        thresholds=quick.thresholds,
        bias=quick.bias,
        variant=quick.variant,
        backbone=quick.provenance.backbone,
        measure=_measure(answered, config.rule),
        max_loss=config.max_loss,
        loss=chosen.loss,
        loss_held_out=None if by_bound else held_out_loss(answered, config.max_loss),
        share=chosen.share,
        n=len(answered.fast),
        confidence=config.confidence if by_bound else None,
    )


def _joined(
    exact: Manifest, quick: Manifest, cascade: Cascade, probs: NDArray[np.float64], gold: NDArray[np.int64] | None
) -> Manifest:
    """The slow bundle's manifest, without what does not hold for the cascade."""
    own = {} if gold is None else {"cascade": metrics.scores(probs, gold)}
    return msgspec.structs.replace(
        exact,
        batch_invariant=exact.batch_invariant and quick.batch_invariant,
        scores={**exact.scores, **own},
        precision=None,
        conformal=None,
        certificate=None,
        label_shares=None,
        machine=this_machine(),
        cascade=cascade,
    )


def _fill(folder: Path, fast: Path, slow: Path, manifest: Manifest) -> None:
    """Write the slow bundle's files, the fast one's graph and tokenizer, and the joint manifest and card."""
    for path in slow.iterdir():
        if path.name != SIGNATURE_FILE:
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(fast / MODEL_FILE, folder / FAST_MODEL_FILE)
    shutil.copyfile(fast / TOKENIZER_FILE, folder / FAST_TOKENIZER_FILE)
    (folder / FAMILIARITY_FILE).unlink(missing_ok=True)
    if (fast / FAMILIARITY_FILE).exists():  # the fast graph reads every text
        shutil.copyfile(fast / FAMILIARITY_FILE, folder / FAMILIARITY_FILE)
    write_manifest(folder, manifest)
    card, cascade = folder / CARD_FILE, manifest.cascade
    if card.is_file() and cascade is not None:
        lost = loss_note(cascade)
        note = (
            f"`{FAST_MODEL_FILE}` answers where its top probability is at least {cascade.sure:.3f}: {cascade.share:.1%} of"
            f" {cascade.n} texts. {lost[:1].upper()}{lost[1:]}. The scores above are those of `{MODEL_FILE}` alone."
        )
        kept = without_certificate(card.read_text(encoding="utf-8"))
        card.write_text(f"{kept}\n{CARD_TITLE}\n\n{note}\n", encoding="utf-8", newline="\n")


def _golden(rows: Sequence[Golden], exact: Scorer, quick: Scorer) -> list[Golden]:
    """The golden texts of both bundles, each once, with both graphs' probabilities on this machine."""
    pairs = dict.fromkeys((row.text, row.target) for row in rows)
    return [
        Golden(text=text, target=target, probs=exact.probs(text, target), fast_probs=quick.probs(text, target))
        for text, target in pairs
    ]


def _scores(answered: CascadeProbs, probs: NDArray[np.float64], measure: Measure) -> dict[str, float]:
    """The measure, by answerer: fast, slow, cascade."""
    by = {"fast": answered.fast, "slow": answered.slow, "cascade": probs}
    if answered.gold is not None and measure == "macro_f1":
        return {name: metrics.macro_f1(rows, answered.gold) for name, rows in by.items()}
    right = answered.slow.argmax(axis=1) if answered.gold is None else answered.gold
    return {name: float(np.mean(rows.argmax(axis=1) == right)) for name, rows in by.items()}
