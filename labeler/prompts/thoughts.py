"""Where a final answer begins, and where a thought does: read off what a template writes around sentinels.

Everything here is about one piece of text: what a template writes between the last question and the teacher's next letter. Four
such pieces are compared, each rendered with the same variables:

    begun     the generation prompt: what is written when the model is to answer
    finished  before the content of a finished turn without a thought; None where the template does not render one
    thinking  before the thought of a finished turn with one, and `closing` between thought and content
    earlier   before the content of an earlier turn of the assistant

So `begun` may open a thought (`<think>`), may stop before a channel that `finished` names (`<|channel|>final<|message|>`), or may
have closed an empty thought already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from potstill.labeler.teacher import Thought

MARK = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z][A-Z_ ]{1,40}\]|〈[^〈〉]{1,40}〉")
_BRACKETS = (("<", ">"), ("[", "]"), ("〈", "〉"))
_THINKS = re.compile(r"think|thought|reason|analysis|musing|reflect", re.IGNORECASE)
_NAMED = re.compile(r"<[^<>\s]{1,60}>\w*(think|thought|reason|analysis)\w*<[^<>\s]{1,60}>\s*$")
NEW_LINES = "\n\n"  # between a closed thought and the answer, where a template has no form of its own


class OpenThoughtError(Exception):
    """A template opens a thought, and nothing in it says how one ends."""


@dataclass(frozen=True)
class Marks:
    """How a template spells the two ends of a thought."""

    opening: str
    closing: str
    empty: str = ""  # a thought without content as the template writes it, line breaks included; empty: it writes none

    def open_in(self, text: str) -> bool:
        """Whether a thought begins in the text and does not end there."""
        at = text.rfind(self.opening)
        return at >= 0 and self.closing not in text[at + len(self.opening) :]

    def between(self, text: str) -> str:
        """What closes a thought that is open at the end of the text: on a line of its own if it was opened so."""
        own_line = text.endswith("\n")
        return f"\n{self.closing}{NEW_LINES}" if own_line else self.closing

    def opened(self) -> tuple[str, str]:
        """The beginning and the end of the template's empty thought."""
        head, _, rest = self.empty.partition(self.closing)
        breaks = "\n" if "\n" in head else ""
        return head.rstrip("\n") + breaks, f"{breaks}{self.closing}{rest}"


@dataclass(frozen=True)
class AnswerStarts:
    """What a template writes after the last question, in the four cases of this file's head."""

    begun: str
    finished: str | None = None
    thinking: str | None = None
    closing: str = ""
    earlier: str | None = None

    @property
    def bare(self) -> str:
        """What all cases begin with: the head of an assistant's turn."""
        return common([text for text in (self.begun, self.finished, self.thinking, self.earlier) if text is not None])


def marks_of(starts: AnswerStarts, cut_at: str | None) -> Marks | None:
    """The marks of a thought; None if the template writes none and opens none.

    Args:
        cut_at: a mark at which the template cuts an earlier answer, keeping what follows; None: it does not.
    Raises:
        OpenThoughtError: if the generation prompt opens a thought, and nothing says how it ends.
    """
    if starts.thinking is not None:
        closing = first_mark(starts.closing)
        opening = _beyond(starts.thinking, starts.bare)
        if starts.begun.startswith(starts.thinking) and closing not in (more := starts.begun[len(starts.thinking) :]):
            opening = more.strip() or opening  # words before the thought, which only the generation prompt has
        opening = opening or last_opening(starts.thinking)
        return Marks(opening, closing) if opening and closing else None
    for text in (starts.begun, starts.finished or ""):
        if (found := _empty_thought(text, starts.bare)) is not None:
            return found
        marks = [mark for mark in MARK.findall(text) if _THINKS.search(mark) and not _ends(mark)]
        if marks:
            ending = cut_at if cut_at is not None else mirrored(marks[0])
            if ending is None:
                raise OpenThoughtError(f"it opens a thought with {marks[0]}, and nothing in it says how one ends")
            return Marks(marks[0], ending)
    added = _beyond(starts.begun, starts.bare)
    return Marks(added, cut_at) if cut_at is not None and added and cut_at not in added else None


def _beyond(text: str, head: str) -> str:
    """What a text adds to its head, from the beginning of a mark on, without space around."""
    added = text[len(head) :].strip()
    before = [match for match in MARK.finditer(head) if match.end() == len(head)]
    return before[0].group() + added if added and before and not MARK.match(added) else added


def _empty_thought(text: str, head: str) -> Marks | None:
    """The marks of a thought that is opened and closed with nothing in it at the end of the text; None if there is none."""
    for added in (text[len(head) :], text):
        found = list(MARK.finditer(added))
        if len(found) < 2 or added[found[-1].end() :].strip():
            continue
        first, last = found[-2:]
        between = added[first.end() : last.start()]
        opens = _THINKS.search(first.group() + between) and not _ends(first.group()) and len(between.split()) <= 1
        if opens and first.group() != last.group():
            return Marks((first.group() + between).strip(), last.group(), added[first.start() :])
    return None


def _ends(mark: str) -> bool:
    """Whether a mark is spelled like one that ends something."""
    return mark[1] == "/" or bool(re.search(r"\bend|END|close", mark))


def direct_lead(starts: AnswerStarts, marks: Marks | None) -> str:
    """What stands between the last question and the first letter of a final answer without a thought.

    Raises:
        OpenThoughtError: if that would be inside a thought.
    """
    begun, finished = starts.begun, starts.finished
    if marks is None:
        lead = _continued(begun, finished)
    elif finished is not None and finished.startswith(begun) and not marks.open_in(finished):
        lead = finished
    elif not marks.open_in(begun):
        lead = _after_closed(starts, marks)
    elif starts.thinking is not None and starts.thinking.rstrip() == begun.rstrip():
        lead = starts.thinking + starts.closing
    else:
        lead = begun + (starts.closing if starts.thinking is not None else marks.between(begun) + _answer_mark(starts, marks))
    if marks is not None and marks.open_in(lead):
        raise OpenThoughtError("the final answer would begin inside a thought")
    return lead


def thinking_lead(starts: AnswerStarts, marks: Marks | None) -> tuple[str, Thought] | None:
    """What stands before the first letter of a thought, and how the thought ends; None if no thought can begin here."""
    if marks is None:
        return None
    if starts.thinking is not None:
        if starts.begun.startswith(starts.thinking) and marks.open_in(starts.begun):
            return starts.begun, Thought(marks.closing, starts.closing)
        if starts.thinking.startswith(starts.begun.rstrip()) and marks.open_in(starts.thinking):
            return starts.thinking, Thought(marks.closing, starts.closing)
        return None
    if marks.open_in(starts.begun):
        return starts.begun, Thought(marks.closing, marks.between(starts.begun) + _answer_mark(starts, marks))
    if marks.empty and marks.closing not in starts.begun[len(starts.bare) :]:
        opening, closing = marks.opened()
        more = (starts.finished or "").removeprefix(starts.begun)
        answer = more if (starts.finished or "").startswith(starts.begun) and marks.closing not in more else ""
        return starts.begun + opening, Thought(marks.closing, closing + answer)
    return None


def common(texts: list[str]) -> str:
    """The beginning that all texts share; it ends before a mark that only some of them finish."""
    first, last = min(texts), max(texts)
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    shared = first[:n]
    if any(len(text) > len(shared) for text in texts):
        for left, right in _BRACKETS:
            at = shared.rfind(left)
            if at >= 0 and right not in shared[at:]:
                shared = shared[:at]
    return shared


def first_mark(text: str) -> str:
    """The first mark of a text; where there is none, its first line with words in it."""
    found = MARK.search(text)
    return found.group() if found else text.strip().partition("\n")[0]


def last_opening(text: str) -> str:
    """The opening of a thought that ends the text: a mark, or a mark, a word and a mark; empty if no mark ends it."""
    if found := _NAMED.search(text):
        return found.group().strip()
    marks = MARK.findall(text)
    return str(marks[-1]) if marks and text.rstrip().endswith(marks[-1]) else ""


def mirrored(mark: str) -> str | None:
    """`</think>` for `<think>`, `[/THINK]` for `[THINK]`, `<|END_X|>` for `<|START_X|>`; None for other marks."""
    if re.fullmatch(r"<[\w:.-]+>|\[[\w ]+\]", mark):
        return f"{mark[0]}/{mark[1:]}"
    for start, end in (("START", "END"), ("BEGIN", "END"), ("start", "end"), ("begin", "end")):
        if start in mark:
            return mark.replace(start, end)
    return None


def unclosed(text: str) -> str | None:
    """A mark of the text that looks like the opening of a thought which does not end there; None if there is none."""
    depth: list[str] = []
    for mark in MARK.findall(text):
        if _THINKS.search(mark):
            depth = depth[:-1] if _ends(mark) else [*depth, mark]
    return depth[-1] if depth else None


def _continued(begun: str, finished: str | None) -> str:
    """The generation prompt, and what a finished turn writes on top of it."""
    if finished is None or begun.startswith(finished):
        return begun
    if finished.startswith(begun):
        return finished
    more = finished[len(common([begun, finished])) :]
    return begun if begun.endswith(more) else begun + more


def _after_closed(starts: AnswerStarts, marks: Marks) -> str:
    """The lead where the generation prompt opens no thought; where it has closed one, with what a template writes after that."""
    begun = starts.begun
    head, ended, after = begun.rpartition(marks.closing)
    if ended and len(head) >= len(starts.bare):
        if starts.thinking is None:
            return begun + _answer_mark(starts, marks)
        rest = starts.closing.partition(marks.closing)[2]
        return head + ended + rest if rest.startswith(after) else begun
    return _continued(begun, starts.finished)


def _answer_mark(starts: AnswerStarts, marks: Marks) -> str:
    """The mark with which a finished turn begins its answer where the generation prompt begins a thought; empty if it has none."""
    begun, finished = starts.begun, starts.finished or ""
    if begun.startswith(finished) or finished.startswith(begun) or marks.closing in finished[len(starts.bare) :]:
        return ""
    return finished[len(common([begun, finished])) :]
