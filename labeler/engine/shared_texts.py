"""Several questions about a text in one go: the text is decoded once, then every question continues from there by itself.

The tokens of each question are those of prefix, text and question as one string. Those with which all questions of a text begin are
its trunk. It is decoded in the sequence of the first question; then the other questions fork it, each with label words, sampler and
end of a rationale of its own, and every one goes on as a text that is asked alone does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from potstill.contract.errors import UserError
from potstill.labeler.engine.autotune import EngineSettings
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine
from potstill.labeler.engine.pace import Pace
from potstill.labeler.engine.scheduler import Scheduler
from potstill.labeler.engine.sequences import PREFIX
from potstill.labeler.engine.streams import PromptStream, Step, Stream, TextInWork
from potstill.labeler.engine.tokens import LabelWords, PromptTokens, common_length
from potstill.labeler.engine.variant_context import MAX_SEQUENCES, VariantContext, rounded
from potstill.labeler.teacher import PathRequest, QuestionRequests, TooLong, never


@dataclass(frozen=True)
class QuestionPart:
    """One question about a text."""

    context: VariantContext
    request: PathRequest
    tokens: list[int]  # after the prefix: the text and the question

    @property
    def n_sequences(self) -> int:
        """Sequences that its paths may need."""
        return self.context.n_sequences(len(self.request.paths))

    def n_cells(self, n_trunk: int) -> int:
        """Cells that it may take besides those of the trunk."""
        return self.context.n_cells(len(self.tokens) - n_trunk, len(self.request.paths), self.request.n_at_once)


@dataclass(frozen=True)
class SharedText:
    """One text with all that is asked about it, at least one part."""

    parts: list[QuestionPart]

    @property
    def n_trunk(self) -> int:
        """Number of tokens that all parts begin with; each part keeps one at least for itself."""
        first = self.parts[0].tokens
        common = min(common_length(first, part.tokens) for part in self.parts)
        return min(common, min(len(part.tokens) for part in self.parts) - 1)

    @property
    def n_sequences(self) -> int:
        """Sequences that the text may need."""
        return sum(part.n_sequences for part in self.parts)

    @property
    def n_cells(self) -> int:
        """Cells that the text may take."""
        n_trunk = self.n_trunk
        cells = [part.n_cells(n_trunk) for part in self.parts]
        return n_trunk + (max(cells) if self.parts[0].context.sequences.one_at_a_time else sum(cells))

    @property
    def n_streams(self) -> int:
        """Sampled paths that are drawn at the same time."""
        return sum(part.request.n_at_once for part in self.parts if part.context.samples)


class SharedTextInWork:
    """A text whose questions are being answered."""

    def __init__(self, waiting: SharedText, free: list[int]) -> None:
        """Take a sequence for the trunk. Args: free, numbers of the unused sequences, shared with the other texts."""
        self.waiting, self.n_trunk, self._free = waiting, waiting.n_trunk, free
        self.n_prefix = waiting.parts[0].context.prefix_length
        self.parts = [_PartInWork(self, waiting.parts[0])]  # the others come when the trunk is decoded
        self._forked = False

    @property
    def n_sequences(self) -> int:
        """Number of sequences that the text may need from now on."""
        return sum(part.n_sequences for part in self.parts if part.open) if self._forked else self.waiting.n_sequences

    @property
    def n_cells(self) -> int:
        """Number of cells that the text may take from now on."""
        if not self._forked or self.parts[0].context.sequences.one_at_a_time:
            return self.waiting.n_cells
        return self.n_trunk + sum(part.n_cells - self.n_trunk for part in self.parts if part.open)

    @property
    def open(self) -> bool:
        """Whether a path is not complete."""
        return not self._forked or any(part.open for part in self.parts)

    def trunk(self) -> Stream:
        """The stream that decodes what all questions share."""
        first = self.parts[0]
        first.context.sequences.fork(PREFIX, first.sequence)
        return _TrunkStream(self)

    def take(self) -> int:
        """Reserve an unused sequence."""
        return self._free.pop()

    def fork(self) -> list[Stream]:
        """A stream for each question, once the trunk is decoded."""
        first, position = self.parts[0], self.n_prefix + self.n_trunk
        for part in self.waiting.parts[1:]:
            other = _PartInWork(self, part)
            other.context.sequences.fork(first.sequence, other.sequence)
            self.parts.append(other)
        self._forked = True
        return [PromptStream(part, part.prompt[self.n_trunk :], position) for part in self.parts]

    def evict(self) -> SharedText:
        """Leave the cache; returns the text with the missing paths. Its streams must not be stepped any more."""
        left = [replace(own, request=part.evict()) for own, part in zip(self.waiting.parts, self.parts, strict=False)]
        left += self.waiting.parts[len(self.parts) :]
        return SharedText([part for part in left if part.request.paths])

    def close(self) -> None:
        """Free what its questions hold outside the cache."""
        for part in self.parts:
            part.close()


class _PartInWork(TextInWork):
    """One question of a text whose paths are being drawn."""

    def __init__(self, whole: SharedTextInWork, part: QuestionPart) -> None:
        super().__init__(part.context, part.request, part.tokens, whole._free)
        self.whole = whole


class _TrunkStream(Stream):
    """What all questions of a text begin with, while it is decoded into the sequence of the first one."""

    def __init__(self, whole: SharedTextInWork) -> None:
        first = whole.parts[0]
        self._whole, self.text, self.sequence = whole, first, first.sequence
        self.position, self.pending = whole.n_prefix, first.prompt[: whole.n_trunk]
        # its logits are of no use; but where sequences take turns, they are what keeps a decode to one sequence
        self.reads = first.context.sequences.one_at_a_time

    def on_logits(self, row: int) -> Step:
        """Let every question continue by itself."""
        return Step(self._whole.fork())


class SharedTextScheduler(Scheduler):
    """The queue of texts with several questions each. Used once: :meth:`paths` empties it."""

    def __init__(self, waiting: Sequence[SharedText], n_live_paths: int, pace: Pace | None = None) -> None:
        """Args: waiting, at least one text; the others as for :class:`potstill.labeler.engine.scheduler.Scheduler`."""
        super().__init__(waiting[0].parts[0].context, [], n_live_paths, never, pace)
        self._queue = deque(waiting)
        self._shared: list[SharedTextInWork] = []

    @property
    def _waits(self) -> bool:
        """Whether a text is queued."""
        return bool(self._queue)

    def _close_texts(self) -> None:
        """Free what the texts in progress hold outside the cache."""
        for text in self._shared:
            text.close()

    def _retire(self, text: TextInWork) -> None:
        """Forget a text once all its questions are answered."""
        if isinstance(text, _PartInWork) and not text.whole.open:
            self._shared.remove(text.whole)

    def _admit(self) -> None:
        """Start as many queued texts, each with all its questions, as keep a batch full within the free sequences and cells."""
        context, config = self._context, self._config
        n_pending = sum(len(stream.pending) for stream in self._live)
        n_streams = len(self._live)
        n_sequences = sum(text.n_sequences for text in self._shared)
        n_cells = context.prefix_length + sum(text.n_cells for text in self._shared)
        while self._queue and n_pending < config.n_batch and n_streams < self._n_live_paths:
            waiting = self._queue[0]
            n_sequences += waiting.n_sequences
            n_cells += waiting.n_cells
            if n_sequences >= self._sequences.n_sequences or n_cells > config.n_cells:  # the prefix has a sequence too
                if not self._live:
                    name = waiting.parts[0].request.text_id
                    raise UserError(f"text {name} needs {n_cells} cells of the cache and too few are free; lower --paths")
                return
            self._queue.popleft()
            text = SharedTextInWork(waiting, self._free)
            self._shared.append(text)
            self._live.append(text.trunk())
            n_pending += text.n_trunk
            n_streams += waiting.n_streams

    def _evict_youngest(self) -> None:
        """Remove the youngest text from the cache and queue what it lacks; its paths will have the same seeds.

        Raises:
            UserError: if it is the only text.
        """
        if len(self._shared) == 1:
            name = self._shared[0].parts[0].request.text_id
            raise UserError(f"text {name} alone overfills the KV cache; lower --paths or shorten the text")
        text = self._shared.pop()
        leaving = [stream for stream in self._live if stream.text in text.parts]
        self._live = [stream for stream in self._live if stream not in leaving]
        for stream in leaving:
            stream.close()
        self._queue.appendleft(text.evict())


@dataclass(frozen=True)
class SharedTokens:
    """The tokens of all prompts of several questions."""

    shared: list[int]  # of the prefix
    contexts: list[VariantContext]  # one for each question
    parts: list[list[QuestionPart]]  # of each question, one for each request

    def fitting(self, n_free: int) -> tuple[list[list[SharedText]], list[TooLong]]:
        """(the texts, in groups of questions that are asked together; the questions that do not fit).

        Args:
            n_free: tokens that the context has left after the prefix and the answer.
        """
        too_long = [
            TooLong(part.request.text_id, len(part.tokens), n_free, part.context.question)
            for parts in self.parts
            for part in parts
            if len(part.tokens) > n_free
        ]
        groups = []
        for members in packed([max(part.n_sequences for part in parts) for parts in self.parts]):
            texts: dict[str, list[QuestionPart]] = {}
            for parts in self.parts[members.start : members.stop]:
                for part in parts:
                    if len(part.tokens) <= n_free:
                        texts.setdefault(part.request.text_id, []).append(part)
            if texts:
                groups.append([SharedText(own) for own in texts.values()])
        return groups, too_long


def shared_tokens(engine: LlamaEngine, prefix: str, variant: int, asked: Sequence[QuestionRequests], run_seed: int) -> SharedTokens:
    """Tokenize the prompts of several questions, each as a whole with the prefix.

    Args:
        asked: at least one question, each with a request at least.
    Raises:
        UserError: if the label words of a question cannot be told apart.
    """
    words = [LabelWords.of(engine, one.spec) for one in asked]
    prompts = [
        PromptTokens(engine, prefix, [request.prompt for request in one.requests], one.spec, own.n_back)
        for one, own in zip(asked, words, strict=True)
    ]
    n = min(common_length(prompts[0].shared, own.shared) for own in prompts)
    contexts, parts = [], []
    for one, own, tokens in zip(asked, words, prompts, strict=True):
        after = tokens.shared[n:]  # what only this question's prompts have in common
        without = partial(_without_rationale, tokens, after)
        contexts.append(VariantContext(engine, own, one.spec, variant, run_seed, n, without, one.question))
        parts.append(
            [QuestionPart(contexts[-1], request, after + rest) for request, rest in zip(one.requests, tokens.rests, strict=True)]
        )
    return SharedTokens(prompts[0].shared[:n], contexts, parts)


def _without_rationale(tokens: PromptTokens, after: list[int], prompt: str) -> list[int]:
    """The tokens of a prompt with an empty rationale, after those that all questions share."""
    return after + tokens.without_rationale(prompt)


def packed(n_sequences: Sequence[int]) -> list[range]:
    """The questions in groups that fit into a context together, in their order.

    Args:
        n_sequences: that each question may need for one text.
    """
    groups: list[range] = []
    n_used = MAX_SEQUENCES
    for i, n in enumerate(n_sequences):
        if n_used + n < MAX_SEQUENCES:
            groups[-1] = range(groups[-1].start, i + 1)
        else:
            groups.append(range(i, i + 1))
            n_used = 0
        n_used += n
    return groups


def shared_config(settings: EngineSettings, texts: Sequence[SharedText]) -> EngineConfig:
    """The size of a context for texts with several questions; see :func:`potstill.labeler.engine.variant_context.engine_config`.

    Args:
        texts: at least one.
    Raises:
        UserError: if one text's paths need more sequences than llama.cpp allows.
    """
    context = texts[0].parts[0].context
    sequences_per_text = max(text.n_sequences for text in texts)
    most_paths = max(sum(len(part.request.paths) for part in text.parts) for text in texts)
    cells = [text.n_cells for text in texts]
    average, longest = -(-sum(cells) // len(cells)), max(cells)
    n_texts = -(-2 * settings.n_live_paths // most_paths) if context.samples else settings.n_batch // 8
    n_texts = min(max(1, n_texts), len(texts), (MAX_SEQUENCES - 1) // sequences_per_text)
    if n_texts < 1:
        raise UserError(f"{most_paths} paths need {sequences_per_text} sequences; at most {MAX_SEQUENCES} exist: ask for fewer")
    if context.samples:
        n_cells = longest + (n_texts - 1) * average
    else:  # a text lives for two batches: the one with its trunk, and the one with its questions
        n_cells = 2 * settings.n_batch + longest + average
    return EngineConfig(
        n_cells=rounded(context.prefix_length + n_cells),
        n_batch=max(settings.n_batch, 1 + n_texts * sequences_per_text),
        n_sequences=1 + n_texts * sequences_per_text,
        n_threads=settings.n_threads,
        flash_attention=settings.flash_attention if context.samples else True,
    )


def shared_single_config(settings: EngineSettings, texts: Sequence[SharedText]) -> EngineConfig:
    """The size of a context of one sequence, for the longest question of a text and one path at a time."""
    parts = [part for text in texts for part in text.parts]
    longest = max(part.context.n_cells(len(part.tokens), 1, 1) for part in parts)
    context = parts[0].context
    return EngineConfig(
        n_cells=rounded(context.prefix_length + longest),
        n_batch=settings.n_batch,
        n_sequences=1,
        n_threads=settings.n_threads,
        flash_attention=settings.flash_attention if context.samples else True,
    )
