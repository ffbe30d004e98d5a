"""The pages about people's agreement: counts and coefficients, and the disagreements to resolve."""

from __future__ import annotations

import math

from potstill.contract.errors import FormatError
from potstill.labeler.store.people import HumanDecision
from potstill.review.pages.render import render
from potstill.review.people.agreement import HUMAN_AGREEMENT
from potstill.review.people.answers import given_answer
from potstill.review.people.comparison import agreement_on, counts_of, disagreements
from potstill.review.people.decided import RESOLUTION
from potstill.review.server.desk import Desk, new_entry
from potstill.review.server.labelling import ANSWER, AskedQuestion, found_text, frame
from potstill.review.server.replies import Handler, html, redirect
from potstill.review.server.request import ReviewRequest
from potstill.serve.http.asgi import Refused, Reply

N_SHOWN = 30  # disagreements of a page


def agreement_page(desk: Desk, request: ReviewRequest) -> Reply:
    """Who labelled how much, and how far they agree."""
    people = list(dict.fromkeys([*desk.people, *desk.decided.people()]))
    values = {
        "counts": [counts_of(desk.decided, person) for person in people],
        "questions": [agreement_on(desk.decided, question, people) for question in desk.corpus.questions],
        "human": HUMAN_AGREEMENT,
        "nan": math.isnan,
        "n_open": sum(one.resolution is None for one in disagreements(desk.decided, desk.corpus.questions)),
    }
    return html(render("agreement", **values, **frame(desk, request, "agreement")))


def disagreements_page(desk: Desk, request: ReviewRequest) -> Reply:
    """What people answered differently, each with a button for every answer."""
    found = [one for one in disagreements(desk.decided, desk.corpus.questions) if one.text_id in desk.corpus.texts]
    shown = [(one, desk.corpus.texts[one.text_id], AskedQuestion(one.question, []), new_entry()) for one in found[:N_SHOWN]]
    n_open = sum(one.resolution is None for one in found)
    return html(render("disagreements", shown=shown, n_found=len(found), n_open=n_open, **frame(desk, request, "disagreements")))


def resolve(desk: Desk, request: ReviewRequest) -> Reply:
    """Store how a disagreement is settled."""
    text, question = found_text(desk, request.sent("id")), desk.corpus.question(request.sent("question"))
    if question is None:
        raise Refused(422, "the task has no such question")
    try:
        labels = given_answer(question, request.form.get(ANSWER + question.name, []))
    except FormatError as error:
        raise Refused(422, error.problem) from error
    if labels is None or not request.sent("entry"):
        raise Refused(422, "no answer was chosen; choose the one that is to count")
    row = HumanDecision(
        entry=request.sent("entry"),
        text_id=text.id,
        question=question.name,
        person=request.person,
        labels=labels,
        mode=RESOLUTION,
    )
    desk.decide([row])
    return redirect("/disagreements")


HANDLERS: dict[tuple[str, str], Handler] = {
    ("GET", "/agreement"): agreement_page,
    ("GET", "/disagreements"): disagreements_page,
    ("POST", "/disagreements"): resolve,
}
