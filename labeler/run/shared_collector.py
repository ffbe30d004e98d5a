"""Draw the missing paths of several questions that share each text's decoding, and store each path before it is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.several import Fork, SharedVariant
from potstill.labeler.run.path_collector import COMMIT_SECONDS, N_BLOCK, DrawingClock, RunCallback, batched
from potstill.labeler.run.progress import RunProgress
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.store.questions import own_texts
from potstill.labeler.teacher import PathRequest, QuestionRequests, TeacherPath, TooLong
from potstill.labeler.teachers.local import LocalTeacher

N_CHUNK = 1024  # texts whose prompts are tokenized at a time: all questions of 100,000 texts would take gigabytes


class _Asked:
    """One question's run, and the paths that it has."""

    def __init__(self, store: LabelStore, run: Run, texts: Sequence[Text], most_paths: int) -> None:
        self.run, self._most_paths = run, most_paths
        gold = {text.id: text.gold for text in own_texts(texts, run.settings, store.path) if text.gold is not None}
        self.progress = RunProgress(run.settings, gold, len(texts))
        self.done: dict[str, set[int]] = {}  # numbers of the stored paths, by text id
        ids = {text.id for text in texts}
        for path in store.paths(run):
            if path.text_id in ids:  # the store may hold texts that this command does not ask for
                self.done.setdefault(path.text_id, set()).add(path.path)
                self.progress.found(path)
        self.too_long = store.too_long(run) & ids
        n_missing = sum(len(self.missing(text.id, range(most_paths))) for text in texts)
        self.progress.total = self.progress.n_paths + n_missing

    def missing(self, text_id: str, paths: Sequence[int]) -> tuple[int, ...]:
        """Those of the paths that are wanted and not stored."""
        done = self.done.get(text_id, ())
        return () if text_id in self.too_long else tuple(number for number in paths if number not in done)

    def new(self, results: Sequence[TeacherPath | TooLong]) -> list[TeacherPath | TooLong]:
        """Those that are not stored."""
        return [
            r
            for r in results
            if (r.text_id not in self.too_long if isinstance(r, TooLong) else r.path not in self.done.get(r.text_id, ()))
        ]

    def count(self, results: Sequence[TeacherPath | TooLong]) -> None:
        """Take note of what is stored now."""
        for result in results:
            done = self.done.setdefault(result.text_id, set())
            if isinstance(result, TooLong):
                self.too_long.add(result.text_id)
                self.progress.total -= self._most_paths - len(done)
            else:
                done.add(result.path)
                self.progress.add(result)


class SharedCollector:
    """The runs of questions that are asked together, and the paths that they still lack."""

    def __init__(
        self,
        store: LabelStore,
        runs: Sequence[Run],
        teacher: LocalTeacher,
        config: LabelConfig,
        watch: Callable[[str], RunCallback],
        ends_at: float | None = None,
    ) -> None:
        """Set up; :meth:`start` comes next.

        Args:
            runs: one for each question and tag, in the order of the prompt variants' `asks`.
            watch: gives what to call after every commit, by the question's key.
            ends_at: moment on the clock `time.monotonic()`, in seconds, at which drawing ends; None: never.
        """
        self.runs = list(runs)
        self._store, self._teacher, self._config = store, teacher, config
        self._watch, self._clock = watch, DrawingClock(ends_at)
        self._texts: Sequence[Text] = ()
        self._asked: list[_Asked] = []

    def start(self, texts: Sequence[Text]) -> None:
        """Read the stored paths of these texts."""
        self._texts = texts
        self._asked = [_Asked(self._store, run, texts, self._config.most_paths) for run in self.runs]
        for own in self._asked:
            self._show(own)

    @property
    def n_paths(self) -> int:
        """Stored paths of all questions."""
        return sum(own.progress.n_paths for own in self._asked)

    @property
    def n_drawn(self) -> int:
        """Those that were drawn now."""
        return sum(own.progress.n_drawn for own in self._asked)

    @property
    def n_unlabelled(self) -> int:
        """Texts that are too long for a question and have no path of it."""
        return len({text_id for own in self._asked for text_id in own.too_long if not own.done.get(text_id)})

    def n_stored(self) -> int:
        """Paths of all questions on disk."""
        numbers = ", ".join(str(run.number) for run in self.runs)
        return int(self._store.query(f"select count(*) from paths where run in ({numbers})")[0][0])

    def draw(self, variant: SharedVariant) -> None:
        """Draw every path of one variant that is missing.

        Raises:
            UserError: if the teacher fails or the disk is full; paths drawn before are stored.
            OutOfTimeError: if the time is up before the variant is drawn.
        """
        size = N_BLOCK if self._config.deterministic else N_CHUNK
        for start in range(0, len(self._texts), size):
            block = self._texts[start : start + size]
            places = range(len(variant.forks))
            wanted = [self._requests(variant, place, block) for place in places]
            if not any(wanted):
                continue
            if self._config.deterministic:  # always asked whole, so that the schedule is the same after a stop
                wanted = [[PathRequest(text.id, variant.prompt(text, place), variant.paths) for text in block] for place in places]
            self._draw_and_store(variant, wanted)

    def _requests(self, variant: SharedVariant, place: int, texts: Sequence[Text]) -> list[PathRequest]:
        """What one fork lacks: of tags, what any of them lacks. Args: place, of the fork."""
        runs = self._runs_of(variant.forks[place])
        found = []
        for text in texts:
            missing = {path for own in runs for path in own.missing(text.id, variant.paths)}
            if missing:
                found.append(PathRequest(text.id, variant.prompt(text, place), tuple(p for p in variant.paths if p in missing)))
        return found

    def _runs_of(self, fork: Fork) -> list[_Asked]:
        """The runs of a fork's questions."""
        keys = {ask.key for ask in fork.asks}
        return [own for own in self._asked if own.run.settings.question in keys]

    def _draw_and_store(self, variant: SharedVariant, wanted: Sequence[list[PathRequest]]) -> None:
        """Ask the teacher, and store its paths as they arrive."""
        self._clock.start()
        forks = {fork.key: fork for fork in variant.forks}
        asked = [QuestionRequests(key, spec, own) for key, spec, own in zip(forks, variant.specs, wanted, strict=True)]
        results = self._teacher.answer_together(variant.prefix, variant.number, asked, self._config.seed)
        for answers in batched(results, COMMIT_SECONDS):
            batch = [one for answer in answers for one in forks[answer.question].results(answer)]
            for own in self._asked:
                new = own.new([result for result in batch if result.question == own.run.settings.question])
                self._store.add(own.run, new)
                own.count(new)
                if new:
                    self._show(own)
            self._clock.look()

    def _show(self, own: _Asked) -> None:
        """Report a question's progress."""
        self._watch(own.run.settings.question)(own.progress)
