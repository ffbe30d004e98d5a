"""The classifier: an open bundle that takes texts and returns labels with probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import (
    FAST_MODEL_FILE,
    FAST_TOKENIZER_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    BundleFiles,
    Golden,
    Manifest,
    check_targets_of_golden,
    read_files,
    read_golden,
    read_manifest,
)
from potstill.contract.errors import UserError
from potstill.contract.promises.familiarity import FAMILIARITY_FILE, Familiarity, read_familiarity, unfamiliarity_of
from potstill.serve.runtime.denormals import with_denormals_as_zero
from potstill.serve.runtime.golden import replay
from potstill.serve.runtime.heads import QuestionAnswer, ThresholdVerdict, labels_in_set, thresholds_in_order
from potstill.serve.runtime.scorer import Scorer, Trace, open_scorer
from potstill.serve.runtime.session import OUTPUT, graph_errors
from potstill.serve.runtime.tokenizer import Feeds, tokenizer_errors


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one text. Of a bundle with several questions they are in `questions`, and `label` and `probs` are empty."""

    label: str  # the most probable one
    probs: dict[str, float]  # by label, in output order, summing to 1; only the label's own with all_scores=False
    abstain: bool  # True: the label's probability is below its threshold, so a person should see the text; or all questions abstain
    label_set: list[str] | None = None  # in output order, on request; empty if no label fits the text
    verdict: ThresholdVerdict = "no threshold"
    threshold: float | None = 0.0  # lowest probability at which the label is answered; None: never answered
    unfamiliar: bool | None = None  # True: unlike the texts the bundle was made from; None: the bundle cannot tell
    unfamiliarity: float | None = None  # the score behind it; above the bundle's threshold, a text is unfamiliar
    questions: dict[str, QuestionAnswer] | None = None  # by question, in order; None: the bundle answers one choice


class Classifier:
    """An open bundle. Every text runs alone and without padding, so its answer never depends on other texts in the call.

    A bundle with several questions answers all of them in one pass of the graph.
    In a cascade the fast graph reads every text; where it is not confident enough, the slow graph answers.
    Many threads may share one classifier.

        >>> with potstill.Classifier.open("bundle") as classifier:
        ...     (answer,) = classifier.classify(["bought more this morning"])
        >>> answer.label in classifier.manifest.labels
        True
    """

    def __init__(
        self, manifest: Manifest, scorer: Scorer, fast: Scorer | None = None, familiarity: Familiarity | None = None
    ) -> None:
        """Put the parts together; :meth:`open` reads them from a bundle.

        Args:
            manifest: labels, thresholds and label sets.
            scorer: the graph; in a cascade, the slow one.
            fast: a cascade's fast graph.
            familiarity: the tokens of the pool, as the graph's tokenizer numbers them; in a cascade the fast graph's. Without it
                no text is called familiar or not.
        """
        self.familiarity = familiarity
        self._unfamiliarity = None if familiarity is None else unfamiliarity_of(familiarity)
        self.manifest, self.scorer = manifest, scorer
        self.tokenizer, self.session = scorer.tokenizer, scorer.session
        self.fast = fast if manifest.cascade is not None else None
        self._labels = manifest.labels
        self._thresholds = thresholds_in_order(manifest.thresholds, self._labels)
        self._sure = manifest.cascade.sure if manifest.cascade is not None else math.inf
        fast_thresholds = None if manifest.cascade is None else manifest.cascade.thresholds
        self._fast_thresholds = thresholds_in_order(fast_thresholds, self._labels)

    @classmethod
    def open(cls, bundle: str | Path, *, threads: int = 1, check: bool = True, trust: bool = False) -> Classifier:
        """Open a bundle; every file is read once, and its hash checked before any parser sees its bytes.

        Args:
            bundle: the folder.
            threads: cores that one text may use, at least 1.
            check: replay the golden texts.
            trust: you know who made the bundle, so open it whatever operators and tokenizer parts are in it. Otherwise only
                those are opened that exports write, and no graph that asks for a lot of memory.
        Raises:
            FormatError: if a file is missing, changed or malformed, or the files do not fit each other.
            UserError: if the golden texts get other probabilities on this machine.
        """
        return cls.from_files(read_files(Path(bundle), trust), threads=threads, check=check)

    @classmethod
    def from_pretrained(
        cls,
        bundle: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        threads: int = 1,
        check: bool = True,
        trust: bool = False,
    ) -> Classifier:
        """Open a bundle from a folder or from the Hugging Face hub; of the hub's, too, every file is checked before it is parsed.

        Args:
            bundle: a folder, or USER/NAME on the hub, which needs the extra `hub`. A folder of that name goes first.
            revision: of the hub: branch, tag or commit; None: main.
            token: of the hub; None: HF_TOKEN, or what `hf auth login` has stored.
            cache_dir: where downloads lie; None: the hub client's cache.
            local_files_only: ask nothing of the hub; HF_HUB_OFFLINE=1 does the same.
            threads, check, trust: as in :meth:`open`.
        Raises:
            FormatError, UserError: as :meth:`open`; also if the hub cannot be reached, refuses, or has no such bundle.
            MissingExtraError: if the hub's client is not installed.
        """
        if Path(bundle).is_dir():
            return cls.open(bundle, threads=threads, check=check, trust=trust)
        from potstill.serve.runtime.hub import HubSource, is_hub_name, read_from_hub  # whoever opens a folder does not wait for it

        if not is_hub_name(str(bundle)):
            raise UserError(f"{str(bundle)!r} is neither a folder nor a name on the hub; give a bundle's folder, or USER/NAME")
        source = HubSource(str(bundle), revision, token, cache_dir, local_files_only)
        return cls.from_files(read_from_hub(source, trust=trust), threads=threads, check=check)

    @classmethod
    def from_files(cls, files: BundleFiles, *, threads: int = 1, check: bool = True) -> Classifier:
        """Open a bundle from files that were read and checked; arguments and errors as in :meth:`open`."""
        bundle = files.folder
        manifest = read_manifest(files)
        golden = read_golden(files)
        check_targets_of_golden(bundle, manifest, golden)
        n_labels, fast, cascade, familiarity = len(manifest.labels), None, manifest.cascade, None
        if files.has(FAMILIARITY_FILE):
            familiarity = read_familiarity(bundle / FAMILIARITY_FILE, files.read(FAMILIARITY_FILE))
        distance = familiarity is not None and familiarity.distance_weight > 0  # of the graph that reads every text
        slow_files, fast_files = (
            (bundle / MODEL_FILE, bundle / TOKENIZER_FILE),
            (bundle / FAST_MODEL_FILE, bundle / FAST_TOKENIZER_FILE),
        )
        scorer = open_scorer(*slow_files, manifest, n_labels, threads, files, distance=distance and cascade is None)
        if cascade is not None:
            fast = open_scorer(*fast_files, cascade, n_labels, threads, files, distance=distance)
        classifier = cls(manifest, scorer, fast, familiarity)
        if check:
            classifier.replay(bundle, golden)
        return classifier

    def replay(self, bundle: Path, golden: list[Golden]) -> float:
        """The largest change of a golden probability, of either graph. Raises as :func:`potstill.serve.runtime.golden.replay`."""
        slow = partial(_probs, self.scorer, bundle / MODEL_FILE, bundle / TOKENIZER_FILE)
        change = replay(bundle, golden, slow, self.manifest.machine)
        if self.fast is None:
            return change
        rows = [msgspec.structs.replace(row, probs=row.fast_probs or []) for row in golden]
        fast = partial(_probs, self.fast, bundle / FAST_MODEL_FILE, bundle / FAST_TOKENIZER_FILE)
        return max(change, replay(bundle, rows, fast, self.manifest.machine))

    def classify(
        self,
        texts: Sequence[str | bytes],
        targets: Sequence[str | bytes] | None = None,
        *,
        sets: bool = False,
        all_scores: bool = True,
    ) -> list[Answer]:
        """Answer each text, in order.

        Args:
            texts: B texts of any length, as characters or as UTF-8; they are truncated to the manifest's max_tokens.
            targets: B targets if the task asks about a target, else None.
            sets: add the label set to every answer, or to those of the questions that have one.
            all_scores: list the probabilities of all labels; False lists only those of the answered label or tags.
        Raises:
            UserError: if targets are missing, unexpected, too long, or not as many as the texts, or the bundle has no label sets.
            TypeError: if texts is one string instead of a list.
            ValueError: if the classifier is closed.
        """
        self.check_targets(texts, targets)
        if sets:
            self.check_sets()
        if targets is None:
            return [self._answer(text, None, sets, all_scores) for text in texts]
        return [self._answer(text, target, sets, all_scores) for text, target in zip(texts, targets, strict=True)]

    def traced(self, text: str, target: str | None = None, *, sets: bool = False) -> tuple[Answer, Trace]:
        """(answer to one text, its token count, times and logits); arguments and errors as in :meth:`classify`."""
        self.check_targets([text], None if target is None else [target])
        if sets:
            self.check_sets()
        trace = Trace()
        return self._answer(text, target, sets, True, trace), trace

    def probs(self, texts: Sequence[str | bytes], targets: Sequence[str | bytes] | None = None) -> NDArray[np.float64]:
        """Calibrated probabilities, float64 [B, C] in label order, of all questions side by side. Raises as :meth:`classify`.

        Rows sum to 1; with several questions, the part of each that is not about tags does.
        """
        self.check_targets(texts, targets)
        abouts: Sequence[str | bytes | None] = targets if targets is not None else [None] * len(texts)
        rows = [self._decide(text, about)[0] for text, about in zip(texts, abouts, strict=True)]
        return np.array(rows, np.float64).reshape(len(rows), len(self._labels))

    def logits(self, texts: Sequence[str | bytes], targets: Sequence[str | bytes] | None = None) -> NDArray[np.float32]:
        """Logits, float32 [B, C] in label order; in a cascade, the slow graph's. Raises as :meth:`classify`."""
        self.check_targets(texts, targets)
        abouts: Sequence[str | bytes | None] = targets if targets is not None else [None] * len(texts)
        rows = [self.run(self.tokenizer.ids(text, about)) for text, about in zip(texts, abouts, strict=True)]
        return np.concatenate(rows) if rows else np.empty((0, len(self._labels)), np.float32)

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Run the session on token ids, without the tokenizer; logits float32 [B, C]."""
        logits: NDArray[np.float32] = with_denormals_as_zero(self.session.run, [OUTPUT], feeds)[0]
        return logits

    @property
    def has_sets(self) -> bool:
        """Whether the bundle, or one of its questions, has label sets."""
        return has_sets(self.manifest)

    def check_sets(self) -> None:
        """Raise UserError if the bundle, or each of its questions, has no conformal quantile and so no label sets."""
        check_sets(self.manifest)

    def check_targets(self, texts: Sequence[str | bytes], targets: Sequence[str | bytes] | None) -> None:
        """Raise UserError if the targets do not fit the task or the texts; TypeError if texts is one string or bytes."""
        if isinstance(texts, str | bytes):
            raise TypeError("texts is one string; give a list of strings")
        if self.manifest.target and targets is None:
            raise UserError("targets are missing; this bundle answers about a target, so give one for each text")
        if not self.manifest.target and targets is not None:
            raise UserError("targets are given, but this bundle answers without a target; leave them out")
        if targets is not None and len(targets) != len(texts):
            raise UserError(f"there are {len(targets)} targets for {len(texts)} texts; give one for each")

    def close(self) -> None:
        """Free the sessions. A closed classifier answers no more (ValueError); closing it again does nothing."""
        closed: Any = _Closed()
        self.session = self.tokenizer = self.scorer = self.fast = closed

    def __enter__(self) -> Classifier:
        """Return the classifier, which is closed when the block ends."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _decide(
        self, text: str | bytes, target: str | bytes | None, trace: Trace | None = None
    ) -> tuple[list[float], list[float | None], float | None]:
        """(probabilities in label order, thresholds of the graph that computed them, the score of unfamiliarity)."""
        first = self.scorer if self.fast is None else self.fast
        feeds, tokens = first.read(text, target, trace)
        probs, distance = first.answer(feeds, trace)
        score = None
        if self._unfamiliarity is not None:
            score = self._unfamiliarity(tokens, distance)
        if self.fast is None:
            return probs, self._thresholds, score
        if max(probs) >= self._sure:
            return probs, self._fast_thresholds, score
        return self.scorer.probs(text, target, trace), self._thresholds, score

    def _answer(
        self, text: str | bytes, target: str | bytes | None, sets: bool, all_scores: bool, trace: Trace | None = None
    ) -> Answer:
        """The answer to one text; a tie goes to the earlier label."""
        probs, thresholds, score = self._decide(text, target, trace)
        known = (None if score is None or self.familiarity is None else score > self.familiarity.threshold), score
        if self.scorer.heads is not None:
            questions = self.scorer.heads.answers(probs, sets=sets, all_scores=all_scores)
            abstain = all(one.abstain for one in questions.values())
            return Answer("", {}, abstain, None, "no threshold", 0.0, *known, questions)
        prob = max(probs)
        best = probs.index(prob)
        label_set = None
        if sets and self.manifest.conformal is not None:
            label_set = labels_in_set(self._labels, probs, self.manifest.conformal.quantile)
        label, least = self._labels[best], thresholds[best]
        scores = dict(zip(self._labels, probs, strict=True)) if all_scores else {label: prob}
        if least is None:
            return Answer(label, scores, False, label_set, "no threshold", 0.0, *known)
        if least == math.inf:
            return Answer(label, scores, True, label_set, "never answered", None, *known)
        missed = prob < least
        return Answer(label, scores, missed, label_set, "missed" if missed else "reached", least, *known)


def has_sets(manifest: Manifest) -> bool:
    """Whether a bundle, or one of its questions, has label sets."""
    if manifest.heads is None:
        return manifest.conformal is not None
    return any(head.conformal is not None for head in manifest.heads)


def check_sets(manifest: Manifest) -> None:
    """Raise UserError if a bundle has no label sets, as :meth:`Classifier.check_sets`."""
    if not has_sets(manifest):
        raise UserError(
            "label sets are asked for, but this bundle has no conformal quantile; make one with: potstill calibrate --coverage"
        )


class _Closed:
    """What stands in the place of a closed classifier's parts, so that an open one need not ask."""

    def __getattr__(self, name: str) -> NoReturn:
        """Raise ValueError, as a closed file does."""
        raise ValueError("this classifier is closed; open the bundle again with Classifier.open")


def _probs(
    scorer: Scorer, model: Path, tokenizer: Path, texts: Sequence[str], targets: Sequence[str] | None
) -> NDArray[np.float64]:
    """The probabilities of one graph alone, float64 [B, C]; errors of the libraries name the graph's file or the tokenizer's."""
    rows = []
    for text, about in zip(texts, targets if targets is not None else [None] * len(texts), strict=True):
        with tokenizer_errors(tokenizer):
            feeds = scorer.tokenizer.ids(text, about)
        with graph_errors(model):
            rows.append(scorer.probs_of(feeds))
    return np.array(rows)


def softmax(logits: NDArray[np.float32], temperature: float, bias: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Probabilities of logits, float64 [B, C]; rows sum to 1.

    Args:
        logits: float [B, C].
        temperature: divides the logits; above 0.
        bias: float [C], added after that; None adds nothing.
    """
    scaled = logits.astype(np.float64) / temperature
    if bias is not None:
        scaled = scaled + bias
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))  # the shift keeps exp() finite
    probs: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return probs
