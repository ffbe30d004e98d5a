"""What of a bundle's answers can be certified on texts with labels: in all, label by label, or slice by slice.

Axes: N texts, C labels, R texts of the reference.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.promises.certificate import Certificate, CertifiedPart
from potstill.contract.scores.switches import Answers, Tested, certify_groups, fewest_answers, for_reference, share_at_least
from potstill.contract.system.progress import ANSWER_TEXTS, counted
from potstill.contract.texts import Text
from potstill.serve.config import CertifyConfig
from potstill.serve.runtime.classifier import Classifier

CARD_TITLE = "## Certificate"  # of a section that is the last of a model card, or followed by one on label shares
ALL = ""  # the name of all texts beside the slices


@dataclass(frozen=True)
class Answered:
    """A bundle's answers to texts with labels."""

    texts: Sequence[Text]
    labels: Sequence[str]  # in output order
    top: NDArray[np.float64]  # [N], probability of each answer
    answers: NDArray[np.int64]  # [N], its label
    gold: NDArray[np.int64]  # [N]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer is right, [N]."""
        return np.asarray(self.answers == self.gold)

    def at(self, where: NDArray[np.bool_]) -> Answered:
        """Some of the answers."""
        texts = [text for text, kept in zip(self.texts, where, strict=True) if kept]
        return replace(self, texts=texts, top=self.top[where], answers=self.answers[where], gold=self.gold[where])

    def given(self, thresholds: Mapping[str, float | None]) -> NDArray[np.bool_]:
        """Whether each text is answered, [N]. Args: thresholds by label; None: never."""
        least = np.array([2.0 if thresholds[name] is None else thresholds[name] for name in self.labels], dtype=np.float64)
        return np.asarray(self.top >= least[self.answers])

    def digest(self) -> str:
        """SHA-256 of the texts with targets and labels, in any order."""
        return digest.of_value(sorted([text.text, text.target or "", text.gold or ""] for text in self.texts))

    def shares(self) -> dict[str, float]:
        """The share of each label among the labels given."""
        counts = Counter(text.gold for text in self.texts)
        return {label: counts[label] / len(self.texts) for label in self.labels}


def check_out(bundle: Path, out: Path) -> None:
    """Raise UserError if the folder holds something else than a bundle."""
    if out.resolve() != bundle.resolve() and out.exists() and not (out / "bundle.json").is_file() and any(out.iterdir()):
        raise UserError(f"{out}: is a folder with other files; name a bundle or a new folder")


def without_certificate(card: str) -> str:
    """A model card without the section on its bundle's certificate."""
    return card.partition(CARD_TITLE)[0]


def answer(classifier: Classifier, texts: Sequence[Text], workers: int) -> Answered:
    """Answer texts that have labels; each runs alone, as in serving."""
    labels = classifier.manifest.labels
    with ThreadPoolExecutor(workers, thread_name_prefix="answer") as pool:
        rows = pool.map(lambda text: classifier.scorer.probs(text.text, text.target), texts)
        probs = np.array(list(counted(rows, ANSWER_TEXTS, len(texts))))
    gold = np.array([labels.index(text.gold or "") for text in texts])
    return Answered(texts, labels, probs.max(axis=1), probs.argmax(axis=1), gold)


@dataclass(frozen=True)
class _Found:
    """The switches found, and the parts they were found for."""

    thresholds: dict[str, float | None]  # by label
    sure: float
    n_bounds: int
    labels: dict[str, CertifiedPart] | None = None
    slices: dict[str, CertifiedPart] | None = None


def certificate_of(answered: Answered, graph_digest: str, config: CertifyConfig) -> Certificate:
    """Certify what a bundle answered.

    Args:
        answered: the answers to texts that nothing was fitted to. Some of them only tell where the tests begin.
        graph_digest: SHA-256 of the graph.
        config: what is to be certified.
    Raises:
        UserError: if nothing can be certified.
    """
    aside = for_reference(len(answered.top), len(answered.labels) if config.per_label else 1)
    reference, everything, answered = answered.at(aside), answered, answered.at(~aside)
    if not len(reference.top):
        raise UserError(f"there are {len(answered.top)} texts to certify on; give more, a few hundred")
    found = _by_label(answered, reference, config) if config.per_label else _in_all(answered, reference.top, config)
    given, right, n = answered.given(found.thresholds), answered.right, len(answered.top)
    counts = {}
    for c, name in enumerate(answered.labels):
        mine = answered.gold == c
        counts[name] = int(mine.sum()), int((mine & given).sum()), int((mine & given & right).sum())
    return Certificate(
        accuracy=None if config.agreement is not None else config.accuracy,
        agreement=config.agreement,
        confidence=config.confidence,
        sure=found.sure,
        n=n,
        n_answered=int(given.sum()),
        n_right=int((given & right).sum()),
        source=config.source,
        texts_digest=everything.digest(),
        graph_digest=graph_digest,
        label_shares=answered.shares(),
        answered_share=_answered_share(int(given.sum()), n, found, config),
        labels=found.labels,
        slices=found.slices,
        n_bounds=found.n_bounds,
        n_reference=len(reference.top),
        by_gold=counts,
    )


def _answered_share(n_answered: int, n: int, found: _Found, config: CertifyConfig) -> float | None:
    """The share of texts of this kind that are answered at least; None where no bound holds for the way it was chosen."""
    if config.per_label:
        return None
    return share_at_least(n_answered, n, config.confidence) if found.sure > 0 else 1.0


def _in_all(answered: Answered, reference: NDArray[np.float64], config: CertifyConfig) -> _Found:
    """One switch for all labels, and what holds of the slices there."""
    error, top, right = 1 - config.confidence, answered.top, answered.right
    members = {ALL: np.ones(len(top), bool)}
    for name, expression in config.slices.items():
        pattern = re.compile(expression, re.IGNORECASE)
        members[name] = np.array([pattern.search(text.text) is not None for text in answered.texts])
    groups = {name: Answers(top[inside], right[inside], reference) for name, inside in members.items()}
    tested = certify_groups(groups, config.least, error)
    best = tested[ALL].best
    if best is None:
        raise UserError(_nothing(len(top), right, config, len(groups)))
    sure = best.sure
    slices = {
        name: _part(tested[name], inside, answered, top >= sure, config.slices[name], sure)
        for name, inside in members.items()
        if name != ALL
    }
    return _Found(dict.fromkeys(answered.labels, sure), sure, len(groups), slices=slices or None)


def _part(
    tested: Tested, inside: NDArray[np.bool_], answered: Answered, given: NDArray[np.bool_], pattern: str | None, sure: float
) -> CertifiedPart:
    """A slice's or a label's part of the certificate, for what the bundle answers from `sure` on."""
    here = inside & given
    return CertifiedPart(
        sure=None if tested.best is None else tested.best.sure,
        n=int(inside.sum()),
        n_answered=int(here.sum()),
        n_right=int((here & answered.right).sum()),
        holds=any(switch.sure == sure for switch in tested.passed),
        pattern=pattern,
    )


def _by_label(answered: Answered, reference: Answered, config: CertifyConfig) -> _Found:
    """A switch for each label."""
    tops, classes = reference.top, reference.answers
    groups = {
        name: Answers(answered.top[answered.answers == c], answered.right[answered.answers == c], tops).with_own(tops[classes == c])
        for c, name in enumerate(answered.labels)
    }
    tested = certify_groups(groups, config.least, 1 - config.confidence)
    thresholds = {name: None if result.best is None else result.best.sure for name, result in tested.items()}
    switches = [sure for sure in thresholds.values() if sure is not None]
    if not switches:
        raise UserError(_nothing(len(answered.top), answered.right, config, len(groups)))
    given = answered.given(thresholds)
    parts = {
        name: _part(tested[name], answered.answers == c, answered, given, None, thresholds[name] or 0.0)
        for c, name in enumerate(answered.labels)
    }
    return _Found(thresholds, min(switches), len(groups), labels=parts)


def _nothing(n: int, right: NDArray[np.bool_], config: CertifyConfig, n_groups: int) -> str:
    """The reason why nothing is certified, and what to do."""
    fewest = fewest_answers(config.least, (1 - config.confidence) / n_groups)
    of = "no label's switch" if config.per_label else "no switch"
    found = f"{of} shows an {config.name} of {config.least:g} with a confidence of {config.confidence:g} on {n} texts"
    if n < 2 * fewest * (n_groups if config.per_label else 1):
        each = " for a label" if config.per_label else ""
        return (
            f"{found}; that takes at least {fewest} answers{each} without one mistake: give more texts, "
            f"{5 * fewest * (n_groups if config.per_label else 1)} or so"
        )
    return f"{found}, of which {right.mean():.1%} are answered rightly: ask for less, give more texts, or train the student better"
