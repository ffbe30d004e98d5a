"""`potstill review`: the pages on which people label the texts of a store, correct the teacher and steer the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.questions.questionnaire import AnyTask, load_any_task
from potstill.labeler.run.progress import LiveRun
from potstill.labeler.store.database import Run
from potstill.labeler.store.people import Journal
from potstill.review.corpus.texts import Corpus, read_corpus
from potstill.review.queue.dealing import Place, ReviewSettings, deal, random_order
from potstill.review.server.app import ReviewApplication
from potstill.review.server.desk import Desk
from potstill.review.server.door import TOKEN, Door
from potstill.review.server.place import ReviewPlace
from potstill.review.steering.changed_prompts import ChangedPrompts
from potstill.review.steering.changes import AskAgain, Steering, SteeringTools
from potstill.review.steering.job import Advance
from potstill.serve.http.application.access import AccessPolicy
from potstill.serve.http.network.listener import address_text, listen_tcp
from potstill.serve.http.network.server import EarlySignals, HttpServer, Stopped
from potstill.workflows.people.mistake_terms import proposed_terms
from potstill.workflows.people.ranking import ranked_order

MAX_PEOPLE, MAX_NAME_CHARS = 20, 60
_SETTINGS = ReviewSettings()


_PLACE = ReviewPlace()


def review(
    store: str | Path,
    task: str | Path,
    settings: ReviewSettings = _SETTINGS,
    place: ReviewPlace = _PLACE,
    *,
    run: int | None = None,
    teacher: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
    starting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Serve the pages until SIGTERM or SIGINT. What people decide is written into the store's journal as they decide it.

    Args:
        store: the file `labels.db` that :func:`potstill.label` wrote.
        task: the task that it was labelled for.
        settings: who labels, and in which order.
        place: where to listen.
        run: number of the run whose answers are shown; None: the newest.
        teacher: who is asked again after a change of the task; None: the one of the run.
        tell: takes a line for a person: an address for everybody who labels, and notes.
        starting: a context manager that is entered while texts are read and embedded, to show how far that is.
    Raises:
        FormatError: if the store or the task is damaged, or they do not belong together.
        UserError: if a setting makes no sense, or the address cannot be used.
    """
    check_people(settings.people)
    task_file, known = Path(task), load_any_task(task)
    with starting():
        corpus = read_corpus(Path(store), known, run)
        queues = dealt(corpus, settings, tell)
    tools = SteeringTools(_asking_again(Path(store), teacher, tell), partial(read_corpus, Path(store)), proposed_terms)
    steering = Steering(known, corpus, tools)
    others = place.host != _PLACE.host
    with (
        Journal.open(Path(store)) as journal,
        listen_tcp(place.host, place.port, open_to_others=others) as listener,
    ):
        door = Door(AccessPolicy(frozenset(name.lower() for name in (place.host, *place.allow_host))))

        def tell_addresses() -> None:
            """An address with a new token for everybody."""
            for person in settings.people:
                tell(f"{person}: {address_text(listener)}/?{TOKEN}={door.new_token(person)}")

        app = ReviewApplication(Desk(task_file, corpus, journal, queues, steering), door, tell_addresses)
        for note in corpus.notes:
            tell(f"note: {note}")
        tell(f"{len(corpus.texts)} texts of {store}; each address lets one browser in, once; stop with Ctrl-C")
        try:
            with EarlySignals() as early:
                HttpServer(app, place.limits, announce=tell_addresses, early=early).run(sockets=[listener])
        except (KeyboardInterrupt, Stopped):
            pass  # uvicorn has shut down in order, and raises the signal again for its caller


def _asking_again(store: Path, teacher: str | None, tell: Callable[[str], None]) -> AskAgain:
    """What asks the teacher about the prompts that a change of the task has changed."""

    def ask(run: Run, old: AnyTask, new: AnyTask, prompts: ChangedPrompts, advance: Advance) -> None:
        """Ask; raises UserError as :func:`potstill.workflows.people.relabelling.ask_again`."""
        from potstill.labeler.teachers.config import TeacherConfig
        from potstill.workflows.people.relabelling import ChangeOfTask, ask_again  # llama.cpp and httpx are loaded only here

        def progress(live: LiveRun) -> None:
            """Pass on how far it is."""
            advance(live.n_paths, live.total)

        change = ChangeOfTask(store, run, old, new, prompts)
        ask_again(change, None if teacher is None else TeacherConfig(teacher), progress, tell)

    return ask


def check_people(people: Sequence[str]) -> None:
    """Refuse names that cannot be told apart or shown; raises UserError."""
    if not people or len(people) > MAX_PEOPLE:
        raise UserError(f"person: {len(people)} are named; name 1 to {MAX_PEOPLE}")
    for name in people:
        if not name.strip() or name != name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise UserError(f"person: {name!r} is no name; use 1 to {MAX_NAME_CHARS} printable characters without space around")
        if people.count(name) > 1:
            raise UserError(f"person: {name!r} is named twice; give each person a name of their own")


def dealt(corpus: Corpus, settings: ReviewSettings, tell: Callable[[str], None]) -> dict[str, list[Place]]:
    """Everybody's queue. Texts with gold in the store are left out: they have their label; raises UserError as `deal`."""
    ids = [text_id for text_id, text in corpus.texts.items() if text.gold is None]
    order = random_order(ids, settings.seed) if settings.queue == "random" else ranked_order(corpus, ids, tell)
    return deal(order, settings)
