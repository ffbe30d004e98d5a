"""An open bundle, with the estimated cost of its texts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from potstill.contract.bundle import SUMS_FILE, TOKENIZER_FILE, Golden, Manifest, read_golden
from potstill.contract.files import digest
from potstill.serve.runtime.classifier import Answer, Classifier
from potstill.serve.runtime.session import INPUTS
from potstill.serve.runtime.tokenizer import TextTokenizer

TIMED_RUNS = 3  # per length; the fastest counts, as disturbances only slow a run down
CHARS_OF_LONGEST = 8  # characters per token of the long probe, enough to fill the model's window
DIGEST_CHARS = 12  # of the digest, as a version


@dataclass(frozen=True)
class CostModel:
    """Time of a text, linear in its tokens. Attention's quadratic part is ignored: a few percent of the work at 128 tokens."""

    fixed_s: float
    per_token_s: float
    max_tokens: int
    chars_per_token: float = 5.0

    def seconds(self, n_chars: int) -> float:
        """Estimated seconds for a text of that many characters on an idle core; above 0."""
        return self.fixed_s + self.per_token_s * min(self.max_tokens, 2 + n_chars / self.chars_per_token)


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
    return CostModel(max(short_s - per_token_s * n_short, short_s / 10), per_token_s, max_tokens)


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

    answer: Answer
    n_tokens: int
    tokenize_s: float
    infer_s: float  # the rest: session, probabilities, threshold
    logits: list[float]  # [C], in label order, of the graph that gave the answer


@dataclass(frozen=True)
class HostedBundle:
    """One version of a bundle, open under a name. It is safe to use from many threads, and freed after its last request."""

    name: str
    folder: Path
    digest: str  # SHA-256 of SHA256SUMS, which covers every file
    classifier: Classifier
    golden: list[Golden]
    cost: CostModel
    _tokenizer_json: bytes  # kept, as the folder may have another version by the time it is needed
    _longer: list[TextTokenizer] = field(default_factory=list)  # created on first use; see `is_truncated`

    @classmethod
    def open(cls, folder: Path, name: str | None = None) -> HostedBundle:
        """Open and check a bundle, and time its texts; raises as `Classifier.open`."""
        classifier = Classifier.open(folder)
        golden = read_golden(folder)
        cost = measure_cost(classifier, golden)
        tokenizer_json = (folder / TOKENIZER_FILE).read_bytes()
        return cls(name or classifier.manifest.name, folder, sums_digest(folder), classifier, golden, cost, tokenizer_json)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.classifier.manifest

    @property
    def version(self) -> str:
        """The first digits of the digest."""
        return self.digest[:DIGEST_CHARS]

    def answer(self, text: str, target: str | None, *, sets: bool = False) -> TimedAnswer:
        """Classify one text; raises UserError as `Classifier.classify`."""
        start = time.perf_counter()
        answer, trace = self.classifier.traced(text, target, sets=sets)
        infer_s = time.perf_counter() - start - trace.tokenize_s
        return TimedAnswer(answer, trace.n_tokens, trace.tokenize_s, infer_s, trace.logits)

    def is_truncated(self, text: str, target: str | None) -> bool:
        """Tell whether the text has more tokens than the model reads."""
        most = self.manifest.max_tokens
        if self.classifier.tokenizer.ids(text, target)["input_ids"].shape[1] < most:
            return False
        if not self._longer:  # a window with one more token tells a text that just fits from one that was truncated
            self._longer.append(TextTokenizer(self._tokenizer_json, most + 1, INPUTS[:1]))
        return bool(self._longer[0].ids(text, target)["input_ids"].shape[1] > most)


def sums_digest(folder: Path) -> str:
    """SHA-256 of a bundle's SHA256SUMS; another digest is another version."""
    return digest.of_file(folder / SUMS_FILE)
