"""One version of a bundle that is being served."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from potstill.contract.bundle import SUMS_FILE, TOKENIZER_FILE, Golden, Manifest, read_golden
from potstill.contract.files import digest
from potstill.serve.http.hosting.cost import Cost, measure
from potstill.serve.runtime.classifier import Answer, Classifier
from potstill.serve.runtime.session import INPUTS
from potstill.serve.runtime.tokenizer import Tokenize

DIGEST_CHARS = 12  # of the digest, where it stands for a version


@dataclass(slots=True)
class Worked:
    """One text's answer, and what it took."""

    answer: Answer
    n_tokens: int
    tokenize_s: float
    infer_s: float  # the rest: session, probabilities, decision
    logits: list[float]  # in label order, of the graph that gave the answer


@dataclass(frozen=True)
class Hosted:
    """A bundle held open under a name. It may be used from many threads; it is freed when its last request is answered."""

    name: str
    folder: Path
    digest: str  # SHA-256 of SHA256SUMS, which stands for every file
    classifier: Classifier
    golden: list[Golden]
    cost: Cost
    _tokenizer_json: bytes  # kept, as the folder may hold another version by the time it is wanted
    _longer: list[Tokenize] = field(default_factory=list)  # made when it is first needed; see `is_cut`

    @classmethod
    def open(cls, folder: Path, name: str | None = None) -> Hosted:
        """Open and prove a bundle, and time its texts; raises as `Classifier.open`."""
        classifier = Classifier.open(folder)
        golden = read_golden(folder)
        cost = measure(classifier, golden)
        tokenizer_json = (folder / TOKENIZER_FILE).read_bytes()
        return cls(name or classifier.manifest.name, folder, sums_digest(folder), classifier, golden, cost, tokenizer_json)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.classifier.manifest

    @property
    def version(self) -> str:
        """A short name of exactly these files."""
        return self.digest[:DIGEST_CHARS]

    def answer(self, text: str, target: str | None, *, sets: bool = False) -> Worked:
        """One text's answer. Raises UserError, as `Classifier.classify`."""
        start = time.perf_counter()
        answer, trace = self.classifier.traced(text, target, sets=sets)
        infer_s = time.perf_counter() - start - trace.tokenize_s
        return Worked(answer, trace.n_tokens, trace.tokenize_s, infer_s, trace.logits)

    def is_cut(self, text: str, target: str | None) -> bool:
        """Whether the text has more tokens than the model reads."""
        most = self.manifest.max_tokens
        if self.classifier.tokenize.ids(text, target)["input_ids"].shape[1] < most:
            return False
        if not self._longer:  # a window of one token more tells a text that just fits from one that was cut
            self._longer.append(Tokenize(self._tokenizer_json, most + 1, INPUTS[:1]))
        return bool(self._longer[0].ids(text, target)["input_ids"].shape[1] > most)


def sums_digest(folder: Path) -> str:
    """SHA-256 of a bundle's SHA256SUMS: another one is another version."""
    return digest.of_file(folder / SUMS_FILE)
