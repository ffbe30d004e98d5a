"""The shares of a bundle's labels in many texts, with intervals, from few gold texts: `potstill shares`.

`prediction_powered.py` has the estimates; here are the questions of a bundle, and what a person reads.

Axes: N texts, n gold texts, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import FormatError, UserError, count_of
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.head import HOLDS, Head, ranges
from potstill.contract.questions.question import Question
from potstill.contract.system.machine import usable_cores
from potstill.contract.system.progress import ANSWER_TEXTS, counted
from potstill.contract.task import Label
from potstill.contract.texts import Text, read_texts, texts_and_targets
from potstill.serve.config import SharesConfig
from potstill.serve.offline.prediction_powered import Interval, Observed, mean, mean_alone, share, share_alone
from potstill.serve.runtime.classifier import Classifier

MIN_GOLD = 20  # texts with an answer to a question; below, no interval of them was measured
MEAN_LEVEL = "mean level"  # a row of a degree, after its levels
_Floats = NDArray[np.float64]


class LabelShare(msgspec.Struct, frozen=True):
    """The share of a label in all texts, or the mean level of a degree."""

    label: str
    estimate: Interval  # from the gold texts and the answers
    gold: Interval  # from the gold texts alone
    answered: float  # what the bundle's answers would say, uncorrected
    weight: float  # how far the estimate trusts the answers, 0 to 1


class QuestionShares(msgspec.Struct, frozen=True):
    """The shares of one question's labels."""

    name: str  # empty: the bundle answers one choice
    kind: str
    n_gold: int
    shares: list[LabelShare]
    mean_level: LabelShare | None = None  # of a degree


class SharesReport(msgspec.Struct, frozen=True):
    """The shares of all questions."""

    n_texts: int
    n_gold: int
    within: bool  # whether all gold texts are among the texts
    confidence: float
    questions: list[QuestionShares]
    notes: list[str]

    def as_text(self) -> str:
        """A table for each question."""
        lines = [f"shares in {count_of(self.n_texts, 'text')} from {count_of(self.n_gold, 'gold text')} and the bundle's answers"]
        if self.within:
            lines.append("the gold texts are among the texts; they must have been drawn from them at random")
        else:
            lines.append("the gold texts are not all among the texts; both must be random samples of one kind of texts")
        for question in self.questions:
            lines += ["", *_table(question, self.confidence)]
        return "\n".join(lines)


def _table(question: QuestionShares, confidence: float) -> list[str]:
    """The lines of one question."""
    rows = [*question.shares, *([question.mean_level] if question.mean_level else [])]
    width = max(len(MEAN_LEVEL), *(len(row.label) for row in rows))
    title = f"{question.name} ({question.kind}), {question.n_gold} gold texts: " if question.name else ""
    lines = [f"{title}{confidence:.0%} intervals"] if title else [f"{confidence:.0%} intervals"]
    lines.append(f"{'':<{width}}  estimate                gold alone              answers  width")
    for row in rows:
        width_change = row.estimate.width / row.gold.width - 1 if row.gold.width else 0.0
        lines.append(
            f"{row.label:<{width}}  {_shown(row.estimate):<22}  {_shown(row.gold):<22}  {row.answered:<7.3f}  {width_change:+.0%}"
        )
    return lines


def _shown(found: Interval) -> str:
    """`0.312 [0.250, 0.370]`."""
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


_SHARES = SharesConfig()


def shares_of(bundle: str | Path, texts: str | Path, gold: str | Path, config: SharesConfig = _SHARES) -> SharesReport:
    """Estimate the shares of all labels in a file of texts.

    Args:
        bundle: the folder. Its thresholds play no part: every text has an answer.
        texts: all texts; gold labels in it are ignored.
        gold: texts with gold labels that the bundle was not made from, drawn at random: from the texts, or as they were.
        config: confidence and parallelism.
    Raises:
        FormatError: if the bundle or the texts are malformed, or a gold label does not fit.
        UserError: if the golden texts drifted, a target is too long, or no question has `MIN_GOLD` gold texts.
    """
    texts, gold = Path(texts), Path(gold)
    with Classifier.open(bundle, trust=config.trust) as classifier:
        manifest = classifier.manifest
        heads = manifest.heads or [Head(name="", kind="choice", labels=manifest.labels)]
        labels = manifest.labels if manifest.heads is None else None
        known = read_texts(gold, labels=labels, target=manifest.target, gold=True)
        everywhere = read_texts(texts, target=manifest.target)
        answers = _gold_answers(gold, heads, known.texts)
        asked = list(dict.fromkeys([*map(_about, everywhere.texts), *map(_about, known.texts)]))
        rows = _probs(classifier, asked, config.workers or usable_cores())
    at = {about: i for i, about in enumerate(asked)}
    of_texts = rows[[at[_about(text)] for text in everywhere.texts]]
    of_gold = rows[[at[_about(text)] for text in known.texts]]
    there = {_about(text) for text in everywhere.texts}
    n_among = sum(_about(text) in there for text in known.texts)
    within = n_among == len(known.texts)
    notes = [f"{path}: {line}" for path, read in ((texts, everywhere), (gold, known)) if (line := read.skipped_line())]
    if n_among and not within:
        notes.append(f"{n_among} of {len(known.texts)} gold texts are among the texts, the others are not")
    questions = []
    for head, own in zip(heads, ranges(heads), strict=True):
        rows_given = [i for i, given in enumerate(answers) if head.name in given]
        if len(rows_given) < MIN_GOLD:
            notes.append(f"{head.name or gold}: has {len(rows_given)} gold texts; shares need at least {MIN_GOLD}")
            continue
        said = [answers[i][head.name] for i in rows_given]
        questions.append(_question(head, said, of_gold[rows_given, own], of_texts[:, own], (within, config.confidence)))
    if not questions:
        raise UserError(f"{notes[-1]}; label more texts, drawn at random")
    return SharesReport(len(everywhere.texts), len(known.texts), within, config.confidence, questions, notes)


def _about(text: Text) -> tuple[str, str | None]:
    """What a text is answered by."""
    return text.text, text.target


def _probs(classifier: Classifier, asked: Sequence[tuple[str, str | None]], workers: int) -> _Floats:
    """The probabilities of all questions, float64 [texts, C]; each text runs alone, as in serving."""
    texts = [Text(text, "", target) for text, target in asked]
    with ThreadPoolExecutor(workers, thread_name_prefix="answer") as pool:
        return np.concatenate(
            list(counted(pool.map(lambda text: classifier.probs(*texts_and_targets([text])), texts), ANSWER_TEXTS, len(texts)))
        )


def _gold_answers(path: Path, heads: Sequence[Head], texts: Sequence[Text]) -> list[dict[str, list[str]]]:
    """The labels that the gold of each text names, by question; raises FormatError if one does not fit."""
    if len(heads) == 1 and not heads[0].name:
        return [{"": [text.gold or ""]} for text in texts]
    questions = [
        Question(name=head.name, kind=head.kind, question="", labels=[Label(name=name) for name in head.labels]) for head in heads
    ]
    found = [parse_gold(path, f"text {text.id!r}", questions, text.gold) for text in texts]
    if not any(found):
        raise FormatError(path, "", "has no gold answer to any question; add some")
    return found


def _question(
    head: Head, said: Sequence[Sequence[str]], of_gold: _Floats, of_texts: _Floats, how: tuple[bool, float]
) -> QuestionShares:
    """The shares of one question. Args: said, [n] labels that people gave; the answers, [n, C] and [N, C]; within, confidence."""
    within, confidence = how
    gold = np.array([[float(name in labels) for name in head.labels] for labels in said])
    answered = _counted(head, of_texts)
    shares = []
    for c, name in enumerate(head.labels):
        seen = Observed(gold[:, c], of_gold[:, c], of_texts[:, c], within)
        alone = share_alone(gold[:, c], confidence)
        shares.append(LabelShare(name, share(seen, confidence), alone, float(answered[c]), seen.weight))
    level = None
    if head.values is not None:
        worth = np.array(head.values)
        seen = Observed(gold @ worth, of_gold @ worth, of_texts @ worth, within)
        alone = mean_alone(seen.gold, worth, confidence)
        level = LabelShare(
            MEAN_LEVEL, mean(seen, worth, confidence), alone, float(seen.everywhere.mean()), seen.weight
        )  # fmt: skip
    return QuestionShares(head.name, head.kind, len(said), shares, level)


def _counted(head: Head, probs: _Floats) -> _Floats:
    """The share of the texts that each label is the answer to, float64 [C]. Args: probs, [N, C]."""
    if head.is_softmax:
        return np.bincount(probs.argmax(axis=1), minlength=len(head.labels)) / len(probs)
    least = [(head.thresholds or {}).get(name, HOLDS) for name in head.labels]
    holds: _Floats = (probs >= np.array([np.inf if one is None else one for one in least])).mean(axis=0)
    return holds
