"""The pages that steer the teacher: a text becomes a worked example, a term is explained, and what changed is asked again."""

from __future__ import annotations

import math

from potstill.contract.errors import FormatError
from potstill.review.pages.render import render
from potstill.review.server.desk import Desk
from potstill.review.server.labelling import found_text, frame, reveal
from potstill.review.server.replies import Handler, html, redirect
from potstill.review.server.request import ReviewRequest
from potstill.review.steering.changed_prompts import changed_prompts
from potstill.review.steering.task_file import Addition, ChangedTask, NewExample, NewTerm, with_addition, write_change
from potstill.serve.http.asgi import Refused, Reply

N_SHOWN = 20  # texts of a list
MAX_TERM_CHARS, MAX_WORDS_CHARS = 100, 1000
RATIONALE = "rationale."  # begins the name of a form's field


def steer_page(desk: Desk, request: ReviewRequest) -> Reply:
    """What can be told the teacher about one text, and what waits to be asked."""
    text_id = request.asked("id")
    text = found_text(desk, text_id) if text_id else None
    own = desk.decided.own(text_id, request.person) if text_id else {}
    values = {
        "text": text,
        "own": {name: row for name, row in own.items() if row.labels is not None},
        "questions": desk.corpus.questions,
        "shown": reveal(desk, text_id) if own else None,
        "task": desk.steering.task,
        "proposals": desk.steering.proposals(desk.corpus, desk.decided) if not text_id else [],
        "pending": desk.steering.pending(desk.corpus),
        "can_ask": desk.steering.can_ask,
        "job": desk.steering.job,
        "moved": desk.steering.moved,
        "shown_moved": desk.steering.moved.answers[:N_SHOWN] if desk.steering.moved else [],
        "texts": desk.corpus.texts,
        "nan": math.isnan,
        "max_term": MAX_TERM_CHARS,
        "max_words": MAX_WORDS_CHARS,
    }
    return html(render("steer", **values, **frame(desk, request, "steer")))


def preview(desk: Desk, request: ReviewRequest) -> Reply:
    """What an addition would change, before it is written."""
    change = _change(desk, request)
    prompts = changed_prompts(desk.steering.task, change.task, desk.corpus.texts)
    values = {
        "change": change,
        "prompts": prompts,
        "affected": [desk.corpus.texts[text_id] for text_id in prompts.ids[:N_SHOWN]],
        "share": len(prompts.ids) / max(1, len(desk.corpus.texts)),
        "form": {name: fields[-1] for name, fields in request.form.items() if name != "before"},
        "term": request.sent("term").strip(),
        "file": desk.task_file.name,
    }
    return html(render("preview", **values, **frame(desk, request, "steer")))


def back(desk: Desk, request: ReviewRequest) -> Reply:
    """Where a preview leads that was loaded again without its form."""
    return redirect("/steer")


def write(desk: Desk, request: ReviewRequest) -> Reply:
    """Write an addition into the task's file, if it is still the one that was looked at."""
    change = _change(desk, request)
    if change.before != request.sent("before"):
        raise Refused(409, f"{desk.task_file.name} was changed in the meantime, so nothing was written; look at the change again")
    write_change(desk.task_file, change)
    desk.steering.take_task(change.task)
    return redirect("/steer")


def ask(desk: Desk, request: ReviewRequest) -> Reply:
    """Begin to ask the teacher about the texts whose prompts have changed."""
    desk.steering.begin(desk.corpus, desk.decided)
    return redirect("/steer")


def progress(desk: Desk, request: ReviewRequest) -> Reply:
    """The part of the page that shows how far the teacher is."""
    return html(render("progress", job=desk.steering.job))


def refuse(desk: Desk, request: ReviewRequest) -> Reply:
    """Propose a term no more."""
    desk.steering.refuse(request.sent("term"))
    return redirect("/steer")


def _change(desk: Desk, request: ReviewRequest) -> ChangedTask:
    """The task with what a form adds; raises Refused: 422 if the task would not be valid."""
    try:
        return with_addition(desk.task_file, _addition(desk, request))
    except FormatError as error:
        raise Refused(422, str(error)) from error


def _addition(desk: Desk, request: ReviewRequest) -> Addition:
    """What a form adds; raises Refused: 422 if it is not complete."""
    if request.sent("what") == "term":
        term, meaning = (" ".join(request.sent(name).split()) for name in ("term", "meaning"))
        if not term or not meaning or len(term) > MAX_TERM_CHARS or len(meaning) > MAX_WORDS_CHARS:
            bounds = f"at most {MAX_TERM_CHARS} and {MAX_WORDS_CHARS} characters"
            raise Refused(422, f"a term and its meaning are needed, {bounds}")
        return NewTerm(term, meaning)
    text = found_text(desk, request.sent("id"))
    own = desk.decided.own(text.id, request.person)
    answers = {name: row.labels for name, row in own.items() if row.labels is not None}
    if not answers:
        raise Refused(422, "label the text first: a worked example shows the right answer")
    rationales = {name: request.sent(RATIONALE + name)[:MAX_WORDS_CHARS] for name in answers}
    return NewExample(text.text, answers, rationales, text.target)


HANDLERS: dict[tuple[str, str], Handler] = {
    ("GET", "/steer"): steer_page,
    ("GET", "/steer/preview"): back,
    ("POST", "/steer/preview"): preview,
    ("POST", "/steer/write"): write,
    ("POST", "/steer/refuse"): refuse,
    ("POST", "/steer/ask"): ask,
    ("GET", "/steer/progress"): progress,
}
