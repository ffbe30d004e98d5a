"""The list of texts: search, and filters by what the person decided."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from potstill.contract.errors import FormatError
from potstill.contract.texts import Text
from potstill.labeler.store.people import HumanDecision
from potstill.review.pages.render import render
from potstill.review.people.answers import labels_of
from potstill.review.server.desk import Desk
from potstill.review.server.labelling import frame
from potstill.review.server.replies import Handler, html
from potstill.review.server.request import ReviewRequest
from potstill.serve.http.asgi import Reply

N_ROWS = 50  # of a page
SHOWN_CHARS = 240  # of a text
FILTERS = {
    "all": "all texts",
    "todo": "not labelled by me",
    "mine": "labelled by me",
    "skipped": "skipped by me",
    "noted": "with a note of mine",
    "teacher": "labelled by me, the teacher differs",
}


@dataclass(frozen=True)
class ListedText:
    """A row of the list."""

    text: Text
    own: list[HumanDecision]  # of the person, by question
    teacher: list[str]  # where the teacher gives other labels: those; shown only for texts that the person has labelled


def texts_page(desk: Desk, request: ReviewRequest) -> Reply:
    """One page of the texts that were asked for."""
    show = request.asked("show") if request.asked("show") in FILTERS else "all"
    wanted, words = request.asked("label"), request.asked("q")
    ids = desk.corpus.search(words, _filtered(desk, request.person, show, wanted))
    number = _page_number(request.asked("page"))
    last = max(1, -(-len(ids) // N_ROWS))
    number = min(max(1, number), last)
    rows = [_row(desk, request.person, text_id) for text_id in ids[(number - 1) * N_ROWS : number * N_ROWS]]
    query = {"q": words, "show": show, "label": wanted}
    values = {
        "rows": rows,
        "n_found": len(ids),
        "number": number,
        "last": last,
        "words": words,
        "show": show,
        "filters": FILTERS,
        "label": wanted,
        "labels": sorted({name for question in desk.corpus.questions for name in question.label_names}),
        "back": urlencode({**query, "page": number}),
        "before": urlencode({**query, "page": number - 1}),
        "after": urlencode({**query, "page": number + 1}),
        "most": SHOWN_CHARS,
    }
    return html(render("texts", **values, **frame(desk, request, "texts")))


def _page_number(asked: str) -> int:
    """The number of a page that an address names; 1 for anything that is none."""
    return int(asked) if re.fullmatch("[0-9]{1,9}", asked) else 1


def _filtered(desk: Desk, person: str, show: str, label: str) -> list[str]:
    """Ids of the texts that pass the filters, in the order of the store."""
    done = desk.decided.texts_of(person)
    if show == "all" and not label:
        return list(desk.corpus.texts)
    if show == "todo":
        return [text_id for text_id in desk.corpus.texts if text_id not in done]
    passes: dict[str, Callable[[str, HumanDecision], bool]] = {
        "all": lambda _text_id, _row: True,
        "mine": lambda _, row: not row.skipped,
        "skipped": lambda _, row: row.skipped,
        "noted": lambda _, row: bool(row.note),
        "teacher": lambda text_id, row: bool(_teacher_differs(desk, text_id, row)),
    }
    keep = passes[show]
    kept = []
    for text_id in desk.corpus.texts:
        if text_id not in done:
            continue
        rows = desk.decided.own(text_id, person).values()
        if any(keep(text_id, row) and (not label or label in _labels(desk, row)) for row in rows):
            kept.append(text_id)
    return kept


def _labels(desk: Desk, row: HumanDecision) -> list[str]:
    """The labels that a decision gives; none if it gives none, or the question has changed since."""
    question = desk.corpus.question(row.question)
    if question is None or row.labels is None:
        return []
    try:
        return labels_of(question, row.labels)
    except FormatError:
        return []


def _teacher_differs(desk: Desk, text_id: str, row: HumanDecision) -> str:
    """The teacher's labels where they differ from a decision, in words; empty where they do not."""
    question, answer = desk.corpus.question(row.question), desk.corpus.answers.get(row.question, {}).get(text_id)
    if question is None or answer is None or row.labels is None:
        return ""
    given = answer.labels(question.kind)
    return "" if given == _labels(desk, row) else ", ".join(given) or "none"


def _row(desk: Desk, person: str, text_id: str) -> ListedText:
    """A row of the list."""
    own = list(desk.decided.own(text_id, person).values())
    return ListedText(desk.corpus.texts[text_id], own, [said for row in own if (said := _teacher_differs(desk, text_id, row))])


HANDLERS: dict[tuple[str, str], Handler] = {("GET", "/texts"): texts_page}
