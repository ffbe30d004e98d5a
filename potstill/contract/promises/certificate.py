"""A bundle's certificate: what was shown of its answers, with a stated confidence, on texts that nothing was fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from potstill.contract.errors import FormatError
from potstill.contract.files.decode import Strict
from potstill.contract.questions.decision import LabelSource
from potstill.contract.questions.head import Head


class CertifiedPart(Strict):
    """A certificate's statement about one label's answers, or about the answers to one slice of the texts."""

    sure: float | None  # the lowest probability from which on it can be made, 0 to 1; None: it cannot
    n: int  # texts answered with the label, or of the slice
    n_answered: int  # by the certified bundle
    n_right: int  # of these
    holds: bool = True  # whether it can be made of what the certified bundle answers
    pattern: str | None = None  # of a slice: the regular expression that its texts match, ignoring case


class Certificate(Strict):
    """What answers at or above a confidence were shown to be right, on texts that nothing was fitted to.

    With the stated confidence, a text like these that is answered is right with at least the stated accuracy, in each part, too.
    On a teacher's labels it is a certificate of agreement, never of accuracy.
    """

    confidence: float  # that all bounds hold, above 0 and below 1
    sure: float  # an answer is given if its probability is at least this, 0 to 1; otherwise the bundle abstains
    n: int  # number of texts that were tested
    n_answered: int
    n_right: int  # of these
    source: LabelSource  # whose labels count as right
    texts_digest: str  # SHA-256 of the texts with their labels
    graph_digest: str  # SHA-256 of model.onnx
    label_shares: dict[str, float]  # of the labels given by `source`, then
    accuracy: float | None = (
        None  # share of right answers among those given, above 0 and below 1: a lower bound, by people's labels
    )
    agreement: float | None = None  # the same with the teacher's labels, in place of accuracy
    answered_share: float | None = None  # of texts of this kind that are answered, at least, with the same confidence
    labels: dict[str, CertifiedPart] | None = None  # each label's own switch, in place of `sure`, which is the lowest of them
    slices: dict[str, CertifiedPart] | None = None  # at the switch `sure`
    n_reference: int = 0  # further texts, which only told where the tests begin
    n_bounds: int = 1  # statements that the error was divided among
    by_gold: dict[str, tuple[int, int, int]] | None = None  # by the label given: texts, of these answered, of these right

    @property
    def name(self) -> str:
        """What is certified: accuracy, or agreement with the teacher."""
        return "accuracy" if self.source == "gold" else "agreement with the teacher"

    @property
    def right(self) -> str:
        """What the answers that count are called."""
        return "right" if self.source == "gold" else "the teacher's"

    @property
    def least(self) -> float:
        """The certified share of right answers, whoever's labels count as right."""
        return (self.accuracy if self.agreement is None else self.agreement) or 0.0

    def estimate(self, shares: dict[str, float]) -> float | None:
        """The share of right answers to expect where labels have other shares; None if the counts do not tell.

        An estimate and no bound: the texts of each label must look as they did, and the bundle must answer as it did.

        Args:
            shares: by label, sum to 1.
        """
        counts = self.by_gold or {}
        found = [(shares.get(name, 0.0) / n, answered, right) for name, (n, answered, right) in counts.items() if n]
        if any(share > 0 and not counts.get(name, (0, 0, 0))[0] for name, share in shares.items()):
            return None
        given = sum(weight * answered for weight, answered, _ in found)
        return sum(weight * right for weight, _, right in found) / given if given else None


def check_certificate(path: Path, certificate: Certificate | None, field: str = "certificate") -> None:
    """Raise FormatError, naming the field, if a certificate's counts and shares cannot be true."""
    if certificate is None:
        return
    given = [name for name in ("accuracy", "agreement") if getattr(certificate, name) is not None]
    if len(given) != 1:
        raise FormatError(path, field, f"has {' and '.join(given) or 'neither'}; it must have accuracy or agreement")
    for name in (*given, "confidence"):
        if not 0 < getattr(certificate, name) < 1:
            raise FormatError(path, f"{field}.{name}", f"is {getattr(certificate, name)}; it must be above 0 and below 1")
    parts: dict[str, Certificate | CertifiedPart] = {"": certificate}
    for kind in ("labels", "slices"):
        parts |= {f".{kind}.{name}": part for name, part in (getattr(certificate, kind) or {}).items()}
    for place, part in parts.items():
        if part.sure is not None and not 0 <= part.sure <= 1:
            raise FormatError(path, f"{field}{place}.sure", f"is {part.sure}; it must be from 0 to 1")
        if not 0 <= part.n_right <= part.n_answered <= part.n:
            found = f"{part.n_right} right of {part.n_answered} answered of {part.n}"
            raise FormatError(path, f"{field}{place}", f"says {found}; each must be at most the next")


def check_certificates(path: Path, heads: Sequence[Head], certificates: Mapping[str, Certificate]) -> None:
    """Raise FormatError unless every certificate is whole, and of a question with one answer. Args: certificates, by question."""
    allowed = [head.name for head in heads if head.is_softmax]
    for name, certificate in certificates.items():
        place = f"certificates.{name}"
        if name not in allowed:
            raise FormatError(path, place, f"is not of a question with one answer; allowed: {', '.join(allowed) or 'none'}")
        check_certificate(path, certificate, place)
