"""An open bundle, with the estimated cost of its texts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from potstill.contract.bundle import FAST_TOKENIZER_FILE, TOKENIZER_FILE, BundleFiles, Golden, Manifest, read_files, read_golden
from potstill.contract.errors import UserError
from potstill.contract.questions.head import Head, ranges
from potstill.serve.runtime.classifier import Answer, Classifier
from potstill.serve.runtime.scorer import Scorer
from potstill.serve.runtime.session import INPUTS
from potstill.serve.runtime.tokenizer import TextTokenizer

CHARS_OF_PROBE = 8192
TIMED_RUNS = 3  # per length; the fastest counts, as disturbances only slow a run down
CHARS_OF_LONGEST = 8  # characters per token of the long probe, enough to fill the model's window
DIGEST_CHARS = 12  # of the digest, as a version


@dataclass(frozen=True)
class CostModel:
    """Time of a text, linear in its tokens. Attention's quadratic part is ignored: a few percent of the work at 128 tokens."""

    fixed_s: float
    per_token_s: float
    max_tokens: int
    per_char_s: float = 0.0  # of reading on where the first characters have too few tokens
    free_chars: int = 0  # read at no such cost
    chars_per_token: float = 5.0

    def seconds(self, n_chars: int, n_read: int = 0) -> float:
        """Estimated seconds for a text on an idle core; above 0. Args: its characters; those that its tokenizer must read."""
        tokens_s = self.per_token_s * min(self.max_tokens, 2 + n_chars / self.chars_per_token)
        return self.fixed_s + tokens_s + self.per_char_s * max(0, n_read - self.free_chars)


def measure_cost(classifier: Classifier, golden: list[Golden]) -> CostModel:
    """Time the bundle's shortest golden text and one that fills the window, and fit a cost model.

    Args:
        classifier: open.
        golden: at least one text.
    """
    shortest = min(golden, key=lambda row: len(row.text))
    max_tokens = classifier.manifest.max_tokens
    words = (shortest.text.strip() or "text") + " "
    longest = (words * (max_tokens * CHARS_OF_LONGEST // len(words) + 1))[: max_tokens * CHARS_OF_LONGEST]
    n_short = min(max_tokens - 1, 2 + len(shortest.text) // 5)
    short_s, long_s = _seconds(classifier, shortest.text, shortest.target), _seconds(classifier, longest, shortest.target)
    per_token_s = max(0.0, (long_s - short_s) / (max_tokens - n_short))
    fixed_s = max(short_s - per_token_s * n_short, short_s / 10)
    return CostModel(fixed_s, per_token_s, max_tokens, _per_char_s(classifier), len(longest))


def _per_char_s(classifier: Classifier) -> float:
    """Seconds that the tokenizer takes a character of words that it does not know, the dearest text to read on in."""
    text = " ".join(["xqzjvk" * 15] * 90)[:CHARS_OF_PROBE]
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        classifier.tokenizer.ids(text)
        times.append(time.perf_counter() - start)
    return min(times) / max(1, classifier.tokenizer.chars_read(text))


def _seconds(classifier: Classifier, text: str, target: str | None) -> float:
    """Seconds of the fastest of a few runs."""
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        classifier.classify([text], None if target is None else [target])
        times.append(time.perf_counter() - start)
    return min(times)


@dataclass(slots=True)
class TimedAnswer:
    """The answer for one text, and the time it took."""

    answer: Answer  # that is given
    n_tokens: int
    tokenize_s: float
    infer_s: float  # the rest: session, probabilities, threshold
    logits: list[float]  # [C], in label order, of the graph that gave the bundle's answer
    own: Answer | None = None  # the bundle's answer, where a teacher's is given instead
    teacher: str = ""  # why the teacher's is not given, where it was wanted


class Truncated(UserError):
    """A text has more tokens than the model reads, and was to be read whole."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a request wants its texts read."""

    sets: bool = False  # add label sets to the answers
    whole: bool = False  # refuse a text that is too long, instead of truncating it
    keep: Literal["head", "tail"] = "head"  # which end of a text that is too long is read


AS_USUAL = Reading()


@dataclass(frozen=True)
class HostedBundle:
    """One version of a bundle, open under a name. It is safe to use from many threads, and freed after its last request."""

    name: str
    folder: Path
    digest: str  # SHA-256 of SHA256SUMS, which covers every file
    classifier: Classifier
    golden: list[Golden]
    cost: CostModel
    trust: bool  # as `BundleFiles` has it
    _tokenizers: dict[str, bytes]  # their files, as the folder may have another version by the time they are needed
    _longer: list[TextTokenizer] = field(default_factory=list)  # created on first use; see `is_truncated`
    _of_tails: list[Classifier] = field(default_factory=list)  # created on first use; see `answer`

    @classmethod
    def open(cls, folder: Path, name: str | None = None) -> HostedBundle:
        """Read, open and check a bundle, and time its texts; raises as `Classifier.open`."""
        return cls.from_files(read_files(folder), name)

    @classmethod
    def from_files(cls, files: BundleFiles, name: str | None = None) -> HostedBundle:
        """Open and check a bundle from files that were read, and time its texts; raises as `Classifier.open`."""
        classifier = Classifier.from_files(files)
        golden = read_golden(files)
        cost = measure_cost(classifier, golden)
        tokenizers = {name: files.read(name) for name in (TOKENIZER_FILE, FAST_TOKENIZER_FILE) if files.has(name)}
        return cls(name or classifier.manifest.name, files.folder, files.digest, classifier, golden, cost, files.trust, tokenizers)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.classifier.manifest

    @property
    def parts(self) -> list[tuple[Head, slice]]:
        """Each question with its place among all outputs; none of a bundle of one choice without heads."""
        heads = self.manifest.heads or []
        return list(zip(heads, ranges(heads), strict=True))

    @property
    def version(self) -> str:
        """The first digits of the digest."""
        return self.digest[:DIGEST_CHARS]

    def price(self, text: str, reading: Reading = AS_USUAL) -> tuple[float, bool]:
        """(estimated seconds for a text on an idle core, above 0; whether it is like most texts).

        A long text with few words, such as one of invisible characters, costs what its tokenizer must read to find enough of them.
        """
        n_read = self.classifier.tokenizer.chars_read(text) if len(text) > self.cost.free_chars else 0
        once_s = self.cost.seconds(len(text), n_read)
        twice = reading.whole or reading.keep == "tail"
        return (2 * once_s if twice else once_s), n_read <= self.cost.free_chars and not twice

    def answer(self, text: str, target: str | None, reading: Reading = AS_USUAL) -> TimedAnswer:
        """Classify one text; raises UserError as `Classifier.classify`, and Truncated."""
        start = time.perf_counter()
        if reading.whole and self.is_truncated(text, target):
            raise Truncated(f"a text has more than {self.manifest.max_tokens} tokens; shorten it, or let it be truncated")
        classifier = self.classifier if reading.keep == "head" else self._tail_classifier()
        answer, trace = classifier.traced(text, target, sets=reading.sets)
        infer_s = time.perf_counter() - start - trace.tokenize_s
        return TimedAnswer(answer, trace.n_tokens, trace.tokenize_s, infer_s, trace.logits)

    def is_truncated(self, text: str, target: str | None) -> bool:
        """Tell whether the text has more tokens than the model reads."""
        most = self.manifest.max_tokens
        if self.classifier.tokenizer.ids(text, target)["input_ids"].shape[1] < most:
            return False
        if not self._longer:  # a window with one more token tells a text that just fits from one that was truncated
            self._longer.append(TextTokenizer(self._tokenizers[TOKENIZER_FILE], most + 1, INPUTS[:1]))
        return bool(self._longer[0].ids(text, target)["input_ids"].shape[1] > most)

    def _tail_classifier(self) -> Classifier:
        """The same graphs, with tokenizers that keep the last tokens of a text."""
        if not self._of_tails:
            manifest, slow, fast = self.manifest, self.classifier.scorer, self.classifier.fast
            scorer = self._tail_scorer(slow, TOKENIZER_FILE, manifest.max_tokens, manifest.temperature, manifest.bias)
            cascade = manifest.cascade
            if fast is not None and cascade is not None:
                fast = self._tail_scorer(fast, FAST_TOKENIZER_FILE, cascade.max_tokens, cascade.temperature, cascade.bias)
            self._of_tails.append(Classifier(manifest, scorer, fast, self.classifier.familiarity))
        return self._of_tails[0]

    def _tail_scorer(self, scorer: Scorer, name: str, max_tokens: int, temperature: float, bias: list[float] | None) -> Scorer:
        """A scorer with a tokenizer of its own. Args: of the head; its tokenizer's file; the settings of the graph."""
        inputs = [node.name for node in scorer.session.get_inputs()]
        tokenizer = TextTokenizer(self._tokenizers[name], max_tokens, inputs, self.folder / name, keep="tail")
        return Scorer(tokenizer, scorer.session, temperature, bias, distance=scorer.distance, heads=scorer.heads)
