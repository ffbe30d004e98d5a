"""Advance all live streams of one prompt variant together.

Every step gathers the pending tokens, prompt tokens of new texts and next tokens of live paths alike, into one decode. A text that
finishes makes room for the next one at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from potstill.contract.errors import UserError
from potstill.labeler.engine.llama import OutOfCellsError, Token
from potstill.labeler.engine.pace import Pace
from potstill.labeler.engine.sequences import PREFIX
from potstill.labeler.engine.streams import PromptStream, Stream, TextInWork
from potstill.labeler.engine.variant_context import VariantContext
from potstill.labeler.teacher import Enough, PathRequest, TeacherPath


class Scheduler:
    """The queue of texts, the texts in progress, and their live streams. Used once: :meth:`paths` empties it."""

    def __init__(
        self,
        context: VariantContext,
        waiting: list[tuple[PathRequest, list[int]]],
        n_live_paths: int,
        enough: Enough,
        pace: Pace | None = None,
    ) -> None:
        """Set up the queue.

        Args:
            waiting: requests with their prompts' tokens after the prefix.
            n_live_paths: the wanted number of live streams.
            pace: chooses the number of threads from decode to decode; None: it stays.
        """
        self._context, self._waiting, self._n_live_paths, self._enough = context, deque(waiting), n_live_paths, enough
        self._pace = pace
        self._sequences, self._config = context.sequences, context.engine.config
        self._free = list(range(self._sequences.n_sequences - 1, PREFIX, -1))  # sequence numbers
        self._texts: list[TextInWork] = []
        self._live: list[Stream] = []  # in decoding order, which matters where not all fit into one decode
        self._n_refused = 0  # decodes for which the cache had no room

    def paths(self, tell: Callable[[str], None] = lambda _: None) -> Iterator[TeacherPath]:
        """Run all texts to their end; each path is yielded as soon as it is complete.

        Args:
            tell: called with a message for the user at the end, if the cache was too small at times.
        Raises:
            UserError: if one text alone overfills the cache, or llama.cpp fails; the paths yielded before are complete.
        """
        try:
            while self._waits or self._live:
                self._admit()
                yield from self._step()
        finally:
            for stream in self._live:
                stream.close()
            self._close_texts()
        if self._n_refused:
            tell(f"the KV cache had no room for {self._n_refused} decodes; smaller ones were used instead, which is slower")

    @property
    def _waits(self) -> bool:
        """Whether a text is queued."""
        return bool(self._waiting)

    def _close_texts(self) -> None:
        """Free what the texts in progress hold outside the cache."""
        for text in self._texts:
            text.close()

    def _retire(self, text: TextInWork) -> None:
        """Forget a text whose paths are all complete."""
        self._texts.remove(text)

    def _admit(self) -> None:
        """Start as many queued texts as keep a batch full, within the free sequences and cells."""
        context, config = self._context, self._config
        n_pending = sum(len(stream.pending) for stream in self._live)
        n_streams = len(self._live)
        n_sequences = sum(text.n_sequences for text in self._texts)
        n_cells = context.prefix_length + sum(text.n_cells for text in self._texts)
        while self._waiting and n_pending < config.n_batch and n_streams < self._n_live_paths:
            request, tokens = self._waiting[0]
            n_sequences += context.n_sequences(len(request.paths))
            n_cells += context.n_cells(len(tokens), len(request.paths), request.n_at_once)
            if n_sequences >= self._sequences.n_sequences or n_cells > config.n_cells:  # the prefix has a sequence too
                if not self._live:
                    raise UserError(
                        f"text {request.text_id} needs {n_cells} cells of the cache and too few are free; lower --paths"
                    )
                return
            self._waiting.popleft()
            text = TextInWork(context, request, tokens, self._free)
            self._sequences.fork(PREFIX, text.sequence)
            self._texts.append(text)
            self._live.append(PromptStream(text, tokens, context.prefix_length))
            n_pending += len(tokens)
            n_streams += request.n_at_once if context.samples else 0

    def _step(self) -> Iterator[TeacherPath]:
        """Decode once, and let every stream use its logits."""
        chosen, rows = self._decode()
        for stream, n_tokens in chosen:
            stream.advance(n_tokens)
        ready = [stream for stream, _ in chosen if not stream.pending]
        left = iter(rows)
        for stream in ready:
            step = stream.on_logits(next(left) if stream.reads else -1)
            # Followers go right behind the stream they branch from: with one sequence, most of it is still in the context.
            at = self._live.index(stream)
            self._live[at : at + 1] = [follower for follower in (stream, *step.followers) if follower.pending]
            yield from step.finished
            while step.finished:
                step = stream.text.next_path(self._enough)
                self._live.extend(step.followers)
                yield from step.finished
            if not stream.text.open:
                self._retire(stream.text)

    def _decode(self) -> tuple[list[tuple[Stream, int]], list[int]]:
        """Decode as many pending tokens as the cache takes; (streams with their numbers of tokens, rows with logits)."""
        limit = self._config.n_batch
        while True:
            chosen, tokens = gather(self._live, limit, self._config.n_sequences)
            try:
                return chosen, self._paced(tokens)
            except OutOfCellsError:
                self._n_refused += 1
            limit = len(tokens) // 2
            if not limit:
                self._evict_youngest()
                limit = 1

    def _paced(self, tokens: list[Token]) -> list[int]:
        """Decode, and let the pace choose the number of threads for the next time."""
        if self._pace is None:
            return self._sequences.decode(tokens)
        began, cpu_began = time.perf_counter(), time.process_time()
        rows = self._sequences.decode(tokens)
        n = self._pace.decoded(len(tokens), time.perf_counter() - began, time.process_time() - cpu_began)
        if n != self._config.n_threads:
            self._context.engine.set_threads(n)
            self._config = self._context.engine.config
        return rows

    def _evict_youngest(self) -> None:
        """Remove the youngest text from the cache and queue it again; its paths will have the same seeds.

        Raises:
            UserError: if it is the only text.
        """
        if len(self._texts) == 1:
            raise UserError(
                f"text {self._texts[0].request.text_id} alone overfills the KV cache; lower --paths or shorten the text"
            )
        text = self._texts.pop()
        leaving = [stream for stream in self._live if stream.text is text]
        self._live = [stream for stream in self._live if stream.text is not text]
        for stream in leaving:
            stream.close()
        self._waiting.appendleft((text.evict(), text.prompt))


def gather(live: list[Stream], limit: int, n_outputs: int) -> tuple[list[tuple[Stream, int]], list[Token]]:
    """Collect pending tokens, stream by stream.

    Args:
        limit: largest number of tokens.
        n_outputs: largest number of tokens with logits; a stream wants them after its last pending token.
    Returns:
        The chosen streams, each with its number of tokens, and the tokens.
    """
    chosen: list[tuple[Stream, int]] = []
    tokens: list[Token] = []
    for stream in live:
        n = min(len(stream.pending), limit - len(tokens))
        if n == 0 or n_outputs == 0:
            break
        first = stream.position
        tokens += [Token(t, first + i, stream.sequence) for i, t in enumerate(stream.pending[:n])]
        if n == len(stream.pending) and stream.reads:
            tokens[-1] = replace(tokens[-1], wants_logits=True)
            n_outputs -= 1
        chosen.append((stream, n))
    return chosen, tokens
