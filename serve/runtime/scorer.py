"""One graph with its tokenizer, temperature and bias: a text in, a probability for each label out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime as ort

from potstill.contract.bundle import BundleFiles, Cascade, Manifest
from potstill.contract.errors import FormatError
from potstill.contract.promises.familiarity import FAMILIARITY_FILE
from potstill.contract.security.tokenizer_form import check_tokenizer
from potstill.serve.runtime.denormals import with_denormals_as_zero
from potstill.serve.runtime.heads import HeadReader, softmax_row
from potstill.serve.runtime.session import DISTANCE, OUTPUT, graph_errors, open_session
from potstill.serve.runtime.tokenizer import Feeds, TextTokenizer


@dataclass(slots=True)
class Trace:
    """Token count, tokenization time and logits of one answer. Where a cascade runs both graphs, counts and times are summed."""

    n_tokens: int = 0  # special tokens and the target included
    tokenize_s: float = 0.0
    logits: list[float] = field(default_factory=list)  # in label order, from the graph that gave the answer


class Scorer:
    """An open graph. Every text runs alone and without padding; many threads may share one scorer."""

    def __init__(
        self,
        tokenizer: TextTokenizer,
        session: ort.InferenceSession,
        temperature: float,
        bias: list[float] | None = None,
        *,
        distance: bool = False,
        heads: HeadReader | None = None,
    ) -> None:
        """Put the parts together; :func:`open_scorer` reads them from files.

        Args:
            tokenizer: makes the graph's inputs.
            session: the graph.
            temperature: divides the logits; above 0.
            bias: in label order, added after that; None adds nothing.
            distance: ask the graph for its second output, too.
            heads: reads the logits of several questions, each with a temperature and bias of its own; None: they are one choice's.
        """
        self.tokenizer, self.session = tokenizer, session
        self.distance, self.heads = distance, heads
        self._temperature, self._bias = temperature, bias
        self._outputs = [OUTPUT, DISTANCE] if distance else [OUTPUT]

    def with_decision(self, manifest: Manifest) -> Scorer:
        """The same graph and tokenizer, with another manifest's temperature and bias."""
        return Scorer(
            self.tokenizer, self.session, manifest.temperature, manifest.bias, distance=self.distance, heads=_reader(manifest)
        )

    def probs(self, text: str | bytes, target: str | bytes | None = None, trace: Trace | None = None) -> list[float]:
        """Probabilities in label order; they sum to 1, with heads as `HeadReader.probs` gives them.

        Args:
            text: of any length, as characters or as UTF-8.
            target: what the text is about, if the task asks about a target.
            trace: counts and times of this call are added to it.
        Raises:
            UserError: if the target is too long.
        """
        return self.probs_of(self.feeds(text, target, trace), trace)

    def feeds(self, text: str | bytes, target: str | bytes | None = None, trace: Trace | None = None) -> Feeds:
        """The graph's inputs for one text; arguments and errors as in :meth:`probs`."""
        return self.read(text, target, trace)[0]

    def read(self, text: str | bytes, target: str | bytes | None = None, trace: Trace | None = None) -> tuple[Feeds, list[int]]:
        """(the graph's inputs for one text, its token ids); arguments and errors as in :meth:`probs`."""
        if trace is None:
            return self.tokenizer.read(text, target)
        start = time.perf_counter()
        feeds, ids = self.tokenizer.read(text, target)
        trace.tokenize_s += time.perf_counter() - start
        trace.n_tokens += len(ids)
        return feeds, ids

    def probs_of(self, feeds: Feeds, trace: Trace | None = None) -> list[float]:
        """Probabilities of one text's token ids, as :meth:`probs` gives them. Args: trace, which receives the logits."""
        return self.answer(feeds, trace)[0]

    def answer(self, feeds: Feeds, trace: Trace | None = None) -> tuple[list[float], float]:
        """(probabilities as :meth:`probs_of` gives them, distance from the pool: at least 0, and 0 if it is not asked for)."""
        found = with_denormals_as_zero(self.session.run, self._outputs, feeds)
        logits: list[float] = found[0][0].tolist()
        if trace is not None:
            trace.logits = logits
        distance = math.sqrt(max(0.0, found[1].item(0))) if self.distance else 0.0
        if self.heads is not None:
            return self.heads.probs(logits), distance
        return softmax_row(logits, self._temperature, self._bias), distance

    def logits(self, feeds: Feeds) -> list[float]:
        """Run the graph on one text's token ids; logits in label order."""
        logits: list[float] = with_denormals_as_zero(self.session.run, [OUTPUT], feeds)[0][0].tolist()
        return logits


def open_scorer(
    model: Path,
    tokenizer: Path,
    settings: Manifest | Cascade,
    n_labels: int,
    threads: int = 1,
    files: BundleFiles | None = None,
    *,
    distance: bool = False,
) -> Scorer:
    """Open a graph from a bundle's files, whose hashes have been checked.

    Args:
        model, tokenizer: the files.
        files: what was read of them; None: they were written by this program, and are read now.
        settings: the part of the manifest about this graph: max_tokens, temperature, bias, heads.
        n_labels: number of classes that the graph must have.
        threads: cores that one text may use, at least 1.
        distance: the graph must give a distance, too.
    Raises:
        FormatError: if a file is malformed, or graph and manifest disagree.
    """
    read = None if files is None else files.read(model.name)
    max_tokens = None
    if files is not None and not files.trust:
        check_tokenizer(tokenizer, files.read(tokenizer.name))
        max_tokens = settings.max_tokens
    session = open_session(model, threads, read, max_tokens)
    with graph_errors(model):  # no dimension at all, or the name of one that is not UTF-8
        n_classes = session.get_outputs()[0].shape[-1]
    if isinstance(n_classes, int) and n_classes != n_labels:
        raise FormatError(model, "outputs", f"has {n_classes} classes; the manifest names {n_labels} labels")
    if distance and DISTANCE not in [node.name for node in session.get_outputs()]:
        raise FormatError(model, "outputs", f"have no {DISTANCE!r}, which {FAMILIARITY_FILE} needs; export the bundle again")
    inputs = [node.name for node in session.get_inputs()]
    words = tokenizer if files is None else files.read(tokenizer.name)
    reader = TextTokenizer(words, settings.max_tokens, inputs, tokenizer)
    return Scorer(reader, session, settings.temperature, settings.bias, distance=distance, heads=_reader(settings))


def _reader(settings: Manifest | Cascade) -> HeadReader | None:
    """The reader of a bundle's heads, None if it has none."""
    return HeadReader(settings.heads) if isinstance(settings, Manifest) and settings.heads is not None else None
