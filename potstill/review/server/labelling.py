"""The page on which a person labels one text at a time, and what it sends."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from potstill.contract.errors import FormatError
from potstill.contract.questions.gold import Given
from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import Questionnaire
from potstill.contract.texts import Text
from potstill.labeler.store.people import HumanDecision, Mode
from potstill.review.corpus.rationales import ShownRationale, rationales
from potstill.review.corpus.texts import TeacherAnswer
from potstill.review.pages.render import render
from potstill.review.people.answers import given_answer, labels_of
from potstill.review.server.desk import Desk, new_entry
from potstill.review.server.replies import Handler, html, redirect
from potstill.review.server.request import ReviewRequest
from potstill.serve.http.asgi import Refused, Reply

MAX_NOTE_CHARS = 2000
MAX_ENTRY_CHARS = 64
FEW = 9  # labels that number keys reach; more are found by their first letters
ANSWER = "answer."  # begins the name of a form's field: answer.QUESTION


@dataclass(frozen=True)
class AskedQuestion:
    """A question as the page shows it."""

    question: Question
    chosen: list[str]  # labels that the person gave before

    @property
    def field(self) -> str:
        """Name of its field in the form."""
        return ANSWER + self.question.name

    @property
    def many(self) -> bool:
        """Whether its labels are found by typing."""
        return len(self.question.label_names) > FEW

    @property
    def choices(self) -> list[tuple[str, str]]:
        """(name, meaning) of each label."""
        meanings = {label.name: label.meaning for label in self.question.labels}
        return [(name, meanings.get(name, "")) for name in self.question.label_names]


@dataclass(frozen=True)
class Revealed:
    """What the teacher said about a text, once a person asks for it."""

    answers: list[tuple[Question, TeacherAnswer]]
    rationales: list[ShownRationale]


def label_page(desk: Desk, request: ReviewRequest) -> Reply:
    """The text that the address names, or the next one of the person's queue."""
    place = desk.next_place(request.person)
    text_id = request.asked("id") or (place.text_id if place else "")
    if not text_id:
        return html(render("done", **frame(desk, request, "label")))
    text = found_text(desk, text_id)
    mode: Mode = place.mode if place and place.text_id == text_id else "search"
    own = desk.decided.own(text_id, request.person)
    asked = [_asked(question, own.get(question.name)) for question in desk.corpus.questions]
    notes = [row.note for row in own.values() if row.note]
    shown = reveal(desk, text_id) if request.asked("reveal") else None
    return html(
        render(
            "label",
            text=text,
            asked=asked,
            guideline=task.guideline.strip() if isinstance(task := desk.steering.task, Questionnaire) else "",
            at_once=len(asked) == 1 and asked[0].question.kind != "tags",
            mode=mode,
            entry=new_entry(),
            note=notes[-1] if notes else "",
            revealed=shown,
            back=request.asked("back"),
            max_note=MAX_NOTE_CHARS,
            **frame(desk, request, "label"),
        )
    )


def frame(desk: Desk, request: ReviewRequest, page: str) -> dict[str, object]:
    """What the head of every page shows."""
    n_done = len(desk.decided.texts_of(request.person))
    return {"person": request.person, "n_done": n_done, "n_texts": len(desk.corpus.texts), "page": page}


def found_text(desk: Desk, text_id: str) -> Text:
    """The text with that id; raises Refused: 404."""
    text = desk.corpus.texts.get(text_id)
    if text is None:
        raise Refused(404, "the store has no text with that id")
    return text


def reveal(desk: Desk, text_id: str) -> Revealed:
    """What the teacher said about a text."""
    answers = [(question, desk.corpus.answers[question.name].get(text_id)) for question in desk.corpus.questions]
    return Revealed([(question, answer) for question, answer in answers if answer], rationales(desk.corpus, text_id))


def _asked(question: Question, row: HumanDecision | None) -> AskedQuestion:
    """A question with the labels that the person gave before; none if the question has changed since."""
    if row is None or row.labels is None:
        return AskedQuestion(question, [])
    try:
        return AskedQuestion(question, labels_of(question, row.labels))
    except FormatError:
        return AskedQuestion(question, [])


def take_labels(desk: Desk, request: ReviewRequest) -> Reply:
    """Store what a person decided about a text, then go on."""
    text = found_text(desk, request.sent("id"))
    entry = request.sent("entry")
    if not entry or len(entry) > MAX_ENTRY_CHARS:
        raise Refused(422, "the form is not one of these pages; open the text again")
    note = request.sent("note").strip()
    if len(note) > MAX_NOTE_CHARS:
        raise Refused(422, f"the note has {len(note)} characters; at most {MAX_NOTE_CHARS} are kept: go back and shorten it")
    skipped = request.sent("action") == "skip"
    answers = dict.fromkeys((question.name for question in desk.corpus.questions), None) if skipped else _answers(desk, request)
    mode = desk.mode_of(request.person, text.id, request.sent("mode"))
    desk.decide(
        [
            HumanDecision(
                entry=entry,
                text_id=text.id,
                question=name,
                person=request.person,
                labels=labels,
                mode=mode,
                note=note,
                skipped=skipped,
                revealed=request.sent("revealed") == "1",
            )
            for name, labels in answers.items()
        ]
    )
    if mode == "search" and request.sent("back"):
        return redirect(f"/texts?{urlencode(parse_qsl(request.sent('back')))}")
    return redirect("/label")


def _answers(desk: Desk, request: ReviewRequest) -> dict[str, Given]:
    """The answer to each question that the form answers; raises Refused: 422 if it answers none, or one wrongly."""
    found: dict[str, Given] = {}
    for question in desk.corpus.questions:
        try:
            given = given_answer(question, request.form.get(ANSWER + question.name, []))
        except FormatError as error:
            raise Refused(422, error.problem) from error
        if given is not None:
            found[question.name] = given
    if not found:
        raise Refused(422, "no answer was chosen; choose one, or skip the text")
    return found


def undo(desk: Desk, request: ReviewRequest) -> Reply:
    """Undo the person's last entry, and show its text again."""
    last = desk.undo(request.person)
    return redirect("/label" if last is None else f"/label?{urlencode({'id': last.text_id})}")


HANDLERS: dict[tuple[str, str], Handler] = {("GET", "/label"): label_page, ("POST", "/label"): take_labels, ("POST", "/undo"): undo}
