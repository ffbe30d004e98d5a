"""The teacher behind a server, whichever way it is asked.

A few HTTP requests are in flight at once; each result is yielded at once, and the next request takes its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from potstill.labeler.config import ServerConfig
from potstill.labeler.teacher import AnswerSpec, Enough, Identity, PathRequest, TeacherPath, TooLong, never
from potstill.labeler.teachers.api_choice import find
from potstill.labeler.teachers.openai_client import ServerClient
from potstill.labeler.teachers.remote_paths import DraftPath, RemoteVariant, remote_variant
from potstill.labeler.teachers.replies import ContextLimit, RefusedError
from potstill.labeler.teachers.served_model import ServedModel, refused


def open_remote(
    url: str,
    *,
    model: str | None = None,
    config: ServerConfig | None = None,
    api: str = "auto",
    tell: Callable[[str], None] = lambda _: None,
) -> OpenAITeacher:
    """Open the teacher at an address and find out what the server offers.

    Args:
        url: base address of the API: http://127.0.0.1:8000/v1
        model: its id on the server; None if the server has only one.
        api: how it is asked, one of :data:`potstill.labeler.teacher.APIS`; `auto` finds out.
        tell: called with a message for the user, where another way than usual is taken.
    Raises:
        UserError: if nothing answers, the model is missing or ambiguous, a key is missing, or the server cannot be asked so.
    """
    client = ServerClient(url, config or ServerConfig())
    try:
        return OpenAITeacher(client.wait(find(client, model, api, tell)))
    except BaseException:
        client.close()
        raise


class OpenAITeacher:
    """Draws paths from a server. Keeps its connections between calls."""

    def __init__(self, model: ServedModel) -> None:
        """Take over a model and its client; :meth:`close` closes the client."""
        self._model = model
        self._variants: dict[tuple[str, int, AnswerSpec, int], RemoteVariant] = {}  # whose prefix is measured

    @property
    def identity(self) -> Identity:
        """The server's own statement about model and software, which cannot be verified."""
        return self._model.identity

    def close(self) -> None:
        """Close the connections."""
        self._model.client.close()

    def answer(
        self, prefix: str, variant: int, requests: Sequence[PathRequest], spec: AnswerSpec, run_seed: int, enough: Enough = never
    ) -> Iterator[TeacherPath | TooLong]:
        """Draw every requested path; see :class:`potstill.labeler.teacher.Teacher`.

        Raises:
            UserError: if the prefix alone overfills the server's context, or the server refuses or keeps failing.
        """
        if not requests:
            return
        key = (prefix, variant, spec, run_seed)
        remote = self._variants.get(key)
        if remote is None:
            remote = remote_variant(self._model, prefix, variant, spec, run_seed)
            self._model.client.wait(remote.measure_prefix())
            self._variants = {**self._variants, key: remote}
        yield from _Schedule(self._model.client, remote, requests, enough).run()


@dataclass
class _Text:
    """One text's path request and its state."""

    request: PathRequest
    later: deque[int] = field(default_factory=deque)  # paths that are started one by one
    n_open: int = 0  # paths started and not complete
    dropped: bool = False  # too long for the context


@dataclass(frozen=True)
class _Job:
    """The work of one HTTP request: sample the rationales of some paths, or read the label of one path."""

    text: _Text
    paths: tuple[int, ...] = ()
    draft: DraftPath | None = None


_Done = tuple[list[DraftPath], list[int]] | TeacherPath


class _Schedule:
    """Decides what to send next. Texts are started only as connections become free, so memory does not grow with their number."""

    def __init__(self, client: ServerClient, remote: RemoteVariant, requests: Sequence[PathRequest], enough: Enough) -> None:
        self._client, self._remote, self._enough = client, remote, enough
        self._requests = iter(requests)
        self._next: deque[_Job] = deque()  # of started texts
        self._running: dict[Future[_Done], _Job] = {}

    def run(self) -> Iterator[TeacherPath | TooLong]:
        """Run all jobs. However it ends, no HTTP request is left running."""
        try:
            while self._fill():
                done, _ = wait(self._running, return_when=FIRST_COMPLETED)
                # failures come last: they end the run, and results that arrived with them are not lost
                for future in sorted(done, key=lambda future: future.exception() is not None):
                    yield from self._finish(self._running.pop(future), future)
        finally:
            for future in self._running:
                future.cancel()

    def _fill(self) -> bool:
        """Keep as many HTTP requests in flight as allowed; returns whether any is."""
        while len(self._running) < self._client.config.concurrency:
            if not self._next:
                request = next(self._requests, None)
                if request is None:
                    break
                self._begin(_Text(request, deque(request.paths[request.n_at_once :])), request.paths[: request.n_at_once])
                continue
            job = self._next.popleft()
            if not job.text.dropped:
                self._running[self._client.submit(self._work(job))] = job
        return bool(self._running)

    def _begin(self, text: _Text, paths: Sequence[int]) -> None:
        """Queue the paths' first jobs before those of other texts."""
        text.n_open += len(paths)
        if self._remote.spec.mode == "cot":
            self._next.appendleft(_Job(text, paths=tuple(paths)))
        else:
            self._next.extendleft(_Job(text, draft=self._remote.start(text.request, path)) for path in reversed(paths))

    async def _work(self, job: _Job) -> _Done:
        """Do a job."""
        return await (self._remote.read(job.draft) if job.draft else self._remote.sample_rationales(job.text.request, job.paths))

    def _finish(self, job: _Job, future: Future[_Done]) -> Iterator[TeacherPath | TooLong]:
        """Yield the result of a job, and queue its follow-up jobs first."""
        text = job.text
        try:
            result = future.result()
        except RefusedError as error:
            if not error.limit:
                raise refused(self._client, error) from None
            if not text.dropped:
                text.dropped = True
                yield self._too_long(text.request, error.limit)
            return
        if text.dropped:
            return
        if isinstance(result, TeacherPath):
            text.n_open -= 1
            yield result
            if not text.n_open and text.later and not self._enough(text.request.text_id):
                self._begin(text, [text.later.popleft()])
            return
        drafts, left = result
        size = self._remote.model.most_choices
        groups = [tuple(left[i : i + size]) for i in range(0, len(left), size)]
        self._next.extendleft(_Job(text, paths=group) for group in reversed(groups))
        self._next.extendleft(_Job(text, draft=draft) for draft in reversed(drafts))

    def _too_long(self, request: PathRequest, limit: ContextLimit) -> TooLong:
        """The record of a text that does not fit; numbers that the server did not give are 0."""
        remote = self._remote
        return TooLong(
            request.text_id, remote.beyond_prefix(limit.n_prompt), remote.beyond_prefix(limit.n_context - remote.n_after)
        )
