"""Streams: sequences of the KV cache with tokens to decode, and the use of the logits after them.

TextInWork ─ PromptStream ─ direct ───────────────────────────────> label read
                          └ cot: RationaleStream, which branches ──> label read
label read: done at once, or a WordStream for each label word of several tokens; candidates that begin alike share one

The sampled paths of a text are decoded as a tree: paths with the same tokens so far are one stream, which branches where their
samples differ. Each path still samples every token with its own sampler and seed, from the logits it would have had alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field, replace

from potstill.labeler.engine.llama_bindings import Sampler
from potstill.labeler.engine.sequences import PREFIX
from potstill.labeler.engine.tokens import logprobs
from potstill.labeler.engine.variant_context import VariantContext
from potstill.labeler.teacher import Enough, PathRequest, TeacherPath, path_seed


@dataclass
class Step:
    """The result of a stream's logits: new streams and finished paths."""

    followers: list[Stream] = field(default_factory=list)
    finished: list[TeacherPath] = field(default_factory=list)


@dataclass
class Member:
    """One path while its rationale is being sampled."""

    path: TeacherPath
    sampler: Sampler


class TextInWork:
    """One text whose paths are being drawn: the part of the cache it may take, and which of its paths are wanted so far.

    Paths that are held back ride along: they sample from the logits of a stream they share with wanted paths, and are parked where
    they branch off. So a path that is wanted later continues from there, and one that never is has cost no decode.
    """

    def __init__(self, context: VariantContext, request: PathRequest, prompt: list[int], free: list[int]) -> None:
        """Args: prompt, its tokens after the prefix; free, numbers of the unused sequences, shared with the other texts."""
        self.context, self.request, self.prompt, self._free = context, request, prompt, free
        self._taken: set[int] = set()
        self.sequence = self.take()  # holds the prompt, then one of the paths
        self.open = set(request.paths)  # paths that are not complete
        self._held_back = deque(request.paths[request.n_at_once :])
        self._n_at_once = request.n_at_once  # paths
        self._parked: list[RationaleStream] = []  # streams without a wanted path
        self._ready: dict[int, TeacherPath] = {}  # paths that were complete before they were wanted

    @property
    def n_sequences(self) -> int:
        """Number of sequences that the text may need from now on."""
        return self.context.n_sequences(len(self.open))

    @property
    def n_cells(self) -> int:
        """Number of cells that the text may take from now on."""
        return self.context.n_cells(len(self.prompt), len(self.open), self._n_at_once)

    def take(self) -> int:
        """Reserve an unused sequence."""
        self._taken.add(sequence := self._free.pop())
        return sequence

    def give_back(self, sequence: int) -> None:
        """Clear a sequence and return it to the unused ones."""
        self.context.sequences.free(sequence)
        self._taken.remove(sequence)
        self._free.append(sequence)

    def branch(self, source: int) -> int:
        """Copy a sequence to an unused one."""
        sequence = self.take()
        self.context.sequences.fork(source, sequence)
        return sequence

    def begin(self, number: int) -> TeacherPath:
        """Start a path, without rationale and label so far."""
        context, text_id = self.context, self.request.text_id
        seed = path_seed(context.run_seed, text_id, number)
        return TeacherPath(text_id, number, context.variant, seed, "", (), len(self.prompt), 0, context.question)

    def wants(self, member: Member) -> bool:
        """Whether the path is wanted already, not held back."""
        return member.path.path not in self._held_back

    def park(self, stream: RationaleStream) -> None:
        """Set a stream aside, with its cells, until one of its paths is wanted."""
        self._parked.append(stream)

    def finish(self, paths: list[TeacherPath]) -> list[TeacherPath]:
        """Take complete paths; returns those that are wanted so far and keeps the others."""
        self._ready |= {path.path: path for path in paths if path.path in self._held_back}
        wanted = [path for path in paths if path.path not in self._held_back]
        self.open -= {path.path for path in wanted}
        return wanted

    def next_path(self, enough: Enough) -> Step:
        """Release the next held-back path: its stream, or the path itself if it is complete.

        The step is empty if the text is decided, or while an unfinished path may still decide it.
        """
        if not self._held_back or len(self.open) > len(self._held_back):
            return Step()
        if enough(self.request.text_id):
            self.open.clear()
            self._drop_parked()
            return Step()
        self._n_at_once = 1
        number = self._held_back.popleft()
        if number in self._ready:
            return Step(finished=self.finish([self._ready.pop(number)]))
        stream = next(stream for stream in self._parked if any(member.path.path == number for member in stream.members))
        self._parked.remove(stream)
        return Step([stream])

    def evict(self) -> PathRequest:
        """Leave the cache; returns the request for the missing paths. The text's streams must not be stepped any more."""
        self.close()
        for sequence in list(self._taken):
            self.give_back(sequence)
        left = tuple(number for number in self.request.paths if number in self.open)
        n_first = self.request.n_first and max(1, self.request.n_first - (len(self.request.paths) - len(left)))
        return replace(self.request, paths=left, n_first=n_first)

    def close(self) -> None:
        """Free the samplers of the parked streams."""
        while self._parked:
            self._parked.pop().close()

    def _drop_parked(self) -> None:
        """Free the parked streams and their sequences."""
        for stream in self._parked:
            self.give_back(stream.sequence)
        self.close()


class Stream(ABC):
    """One sequence and its pending tokens."""

    text: TextInWork
    sequence: int
    position: int
    pending: list[int]
    reads = True  # whether it uses the logits after its last pending token

    def advance(self, n_tokens: int) -> None:
        """Record that the first ``n_tokens`` pending tokens are decoded."""
        self.position += n_tokens
        self.pending = self.pending[n_tokens:]

    @abstractmethod
    def on_logits(self, row: int) -> Step:
        """Use the logits after the last pending token; either set ``pending`` again or end the stream.

        Args:
            row: index of the logits in the engine's last decode; -1 for a stream that does not read.
        """

    def close(self) -> None:  # noqa: B027  # most streams hold nothing outside the cache
        """Free what the stream holds outside the cache."""


class PromptStream(Stream):
    """A text's prompt while it is decoded into the cache."""

    def __init__(self, text: TextInWork, tokens: list[int], position: int) -> None:
        """Args: text, whose sequence already holds the prefix; position of the first token."""
        self.text, self.sequence, self.position, self.pending = text, text.sequence, position, tokens

    def on_logits(self, row: int) -> Step:
        """Read the label at once (`direct`), or let every path sample its first token (`cot`)."""
        text = self.text
        if not text.context.samples:
            (number,) = text.request.paths  # without sampling, equal prompts have equal answers, so there is only one path
            return _Reader(text, [text.begin(number)], self.sequence).read(row, self.position)
        temperature = text.context.spec.temperature
        members = [Member(path, Sampler(temperature, path.seed)) for path in map(text.begin, text.request.paths)]
        root = RationaleStream(text, members, self.sequence, self.position, [])
        step = root.on_logits(row)
        return Step([root, *step.followers], step.finished)


class RationaleStream(Stream):
    """A rationale sampled by the paths that share it so far, then what is forced after it, then the label.

    While it is stepped, at least one of its paths is wanted.
    """

    def __init__(self, text: TextInWork, members: list[Member], sequence: int, position: int, pieces: list[bytes]) -> None:
        """Args: sequence, which holds the prompt and the pieces; position after them."""
        self.text, self.members, self.sequence, self.position, self.pending = text, members, sequence, position, []
        self._pieces = pieces
        self._cued = False  # whether the rationale has ended, and the answer cue is forced

    def on_logits(self, row: int) -> Step:
        """Let every path sample its next token, and branch where they differ; after the cue, read the label."""
        engine = self.text.context.engine
        if self._cued:
            return self._read(row)
        drawn: dict[int, list[Member]] = {}
        for member in self.members:
            drawn.setdefault(engine.sample(member.sampler, row), []).append(member)
        (token, own), *others = sorted(drawn.items(), key=lambda item: (-sum(map(self.text.wants, item[1])), -len(item[1])))
        followers: list[Stream] = []
        for other, members in others:
            branch = RationaleStream(self.text, members, self.text.branch(self.sequence), self.position, list(self._pieces))
            branch.take(other)
            if any(map(self.text.wants, members)):
                followers.append(branch)
            else:
                self.text.park(branch)
        self.members = own
        self.take(token)
        return Step(followers)

    def take(self, token: int) -> None:
        """Append a token that all paths of the stream have sampled."""
        context = self.text.context
        written, piece = b"".join(self._pieces), context.piece(token)
        forced = context.end.after(written, token, piece, is_last=len(self._pieces) + 1 >= context.spec.max_rationale_tokens)
        self._pieces.append(piece)
        self.pending = [token] if forced is None else forced
        self._cued = forced is not None
        if self._cued and len(self._pieces) == 1 and context.end.is_empty(piece) and context.without_rationale:
            self._reread(context.without_rationale(self.text.request.prompt))

    def _reread(self, prompt: list[int]) -> None:
        """Begin the prompt anew if it ends in other tokens where nothing is written after it."""
        if prompt != self.text.prompt + self.pending:
            sequences = self.text.context.sequences
            sequences.free(self.sequence)
            sequences.fork(PREFIX, self.sequence)
            self.position, self.pending = self.text.context.prefix_length, prompt

    def _read(self, row: int) -> Step:
        """Read the label once for all paths of the stream."""
        self.close()
        rationale = self.text.context.end.rationale(b"".join(self._pieces))
        paths = [replace(member.path, rationale=rationale, n_generated=len(self._pieces)) for member in self.members]
        return _Reader(self.text, paths, self.sequence).read(row, self.position)

    def close(self) -> None:
        """Free the samplers."""
        for member in self.members:
            member.sampler.close()


class _Reader:
    """Reads the label words for paths that share text and rationale."""

    def __init__(self, text: TextInWork, paths: list[TeacherPath], sequence: int) -> None:
        """Args: sequence, which holds everything before the label."""
        self.text, self._paths, self._sequence = text, paths, sequence
        self.words = text.context.words.among(text.request.words)
        self.logprobs: list[float] = []  # by word
        self.n_open = 0  # words whose tokens are not all read

    def read(self, row: int, position: int) -> Step:
        """Read every word's first token from the row, and start a stream for each group of longer words."""
        self.logprobs = self.words.first_logprobs(self.text.context.engine.logits(row))
        walkers = [WordStream(self, group, self.text.branch(self._sequence), position, 0) for group in self.words.walks]
        self.n_open = len(self.words.long_words)
        return Step([*walkers], self.finished())

    def finished(self) -> list[TeacherPath]:
        """The finished paths; empty while a word is open."""
        if self.n_open:
            return []
        self.text.give_back(self._sequence)
        found = self.words.apart(self.logprobs)
        return self.text.finish([replace(path, word_logprobs=found) for path in self._paths])


class WordStream(Stream):
    """Label words of several tokens that begin alike, read token by token; it branches where they part."""

    def __init__(self, reader: _Reader, words: list[int], sequence: int, position: int, n_read: int) -> None:
        """Args: words, by index; sequence, which holds everything up to their first ``n_read`` tokens."""
        self.reader, self.text, self.sequence, self.position = reader, reader.text, sequence, position
        self._words, self._n_read = words, n_read + 1
        self.pending = [reader.words.tokens[words[0]][n_read]]

    def on_logits(self, row: int) -> Step:
        """Add the next token's log-probability to every word that goes on; the last token closes a word."""
        reader, words = self.reader, self.reader.words
        longer = [index for index in self._words if len(words.tokens[index]) > self._n_read]
        found = logprobs(self.text.context.engine.logits(row), [words.tokens[index][self._n_read] for index in longer])
        for index, value in zip(longer, found, strict=True):
            reader.logprobs[index] += value
        # The last token of a word is never decoded: nothing is read after it.
        goes_on = [index for index in longer if len(words.tokens[index]) > self._n_read + 1]
        reader.n_open -= len(longer) - len(goes_on)
        own, *others = words.parted(goes_on, self._n_read) or [[]]
        followers = [WordStream(reader, group, self.text.branch(self.sequence), self.position, self._n_read) for group in others]
        if own:
            self._words, self.pending, self._n_read = own, [words.tokens[own[0]][self._n_read]], self._n_read + 1
            return Step([*followers])
        self.text.give_back(self.sequence)
        return Step(finished=reader.finished())
