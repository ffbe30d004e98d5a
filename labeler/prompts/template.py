"""What kind of chat template a teacher has: found by rendering small conversations, not by the names of models.

Tried in turn: the variables without which it renders nothing, contents as text or as a list of parts, a system turn, a field for
thoughts, the switches that turn them off and on. `thoughts.py` compares the renderings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from potstill.contract.errors import UserError
from potstill.labeler.prompts.rendering import ConversationRefusedError, TemplateFacts, TemplateProcess, Turn, cannot
from potstill.labeler.prompts.sandbox import TODAY
from potstill.labeler.prompts.thoughts import (
    AnswerStarts,
    Marks,
    OpenThoughtError,
    direct_lead,
    marks_of,
    thinking_lead,
)

TEXT, REPLY, THOUGHT = "@@the text@@", "@@the reply@@", "@@the musing@@"  # stand for what they say while a template is rendered
_FIRST, _HEAD, _CUT = "@@the first@@", "@@the head@@", "@@cut away@@"
NO_TEMPLATE = "the teacher has no chat template of its own; use --template plain"
LEFT_OUT = "the teacher's chat template leaves the last question out; use --template plain"

# What a template may expect: `transformers` gives no tools and no documents as None; some only render where there is no such
# variable at all, or where it is a text.
_WITHOUT_TOOLS: tuple[Mapping[str, Any], ...] = (
    {"tools": None, "documents": None},
    {},
    {"functions": "[]", "datetime": TODAY.strftime("%Y-%m-%d")},
)
_FIELDS = (  # where a finished turn may carry a thought
    {"reasoning_content": THOUGHT, "reasoning": THOUGHT, "thinking": THOUGHT, "thought": THOUGHT},
    {"reasoning_content": THOUGHT},
    {"reasoning": THOUGHT},
    {"thinking": THOUGHT},
    {"thought": THOUGHT},
    {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": REPLY}]},
)
_SWITCH = re.compile(r"think|reason|effort", re.IGNORECASE)
_NO_SWITCH = re.compile(r"content|preserve|keep|clear|drop|past|history|include|text|part|tool|wrap|render", re.IGNORECASE)
_OFF = re.compile(r"/?no[_-]?think(ing)?|none|off|disabled?|chat|0|minimal", re.IGNORECASE)
_ON = re.compile(r"/?think(ing)?|on|enabled?|high|medium|auto|adaptive", re.IGNORECASE)
_IN_WORDS = re.compile(r"/no_?think(ing)?")
_PARTS = re.compile(r"""['"]type['"]: ?['"]thinking""")  # a list of parts that a template does not know and writes as it is
_MOST_SWITCHES = 8  # and positions of each
_SHORTEST_MARK = 3  # characters
_LONGEST_START = 10_000  # characters; a template in use writes a second system turn of some 1,000 there


@dataclass(frozen=True)
class Form:
    """How a conversation is handed to a template."""

    variables: tuple[tuple[str, Any], ...] = ()  # besides the turns
    typed: bool = False  # whether contents are lists of parts
    system: bool = False  # whether there is a system turn
    words: str = ""  # a switch that stands in the words of the first turn

    def given(self, bos: str, eos: str) -> dict[str, Any]:
        """All variables besides the turns."""
        return {"bos_token": bos, "eos_token": eos, **dict(self.variables)}

    def turn(self, role: str, content: str, **fields: Any) -> Turn:
        """One turn of a conversation."""
        return {"role": role, "content": [{"type": "text", "text": content}] if self.typed else content, **fields}

    def opened(self, head: str, first: str) -> list[Turn]:
        """The turns up to the first question: the head in a system turn, or before the question where there is none."""
        head = f"{head}\n{self.words}" if self.words else head
        if self.system:
            return [self.turn("system", head), self.turn("user", first)]
        return [self.turn("user", f"{head}\n\n{first}")]


@dataclass(frozen=True)
class ChatTemplate:
    """A template that can be rendered, and how it treats thoughts."""

    source: str
    bos: str
    eos: str
    form: Form  # for answers without a thought
    thinking: Form | None = None  # for answers with one; None: the template has no place for thoughts
    marks: Marks | None = None  # how it spells a thought's ends
    fields: tuple[tuple[str, Any], ...] = ()  # how a finished turn carries a thought; empty: in no way
    keeps_thoughts: bool = False  # whether earlier answers are rendered with theirs

    @property
    def kind(self) -> str:
        """One line for a person: roles, thoughts and switches."""
        parts = ["a system turn" if self.form.system else "no system turn, so the guideline begins the first question"]
        if self.marks is None:
            parts.append("no thoughts")
        else:
            parts.append(f"thoughts between {self.marks.opening!r} and {self.marks.closing!r}")
            off, on = _switched(self.form), _switched(self.thinking) if self.thinking else ""
            parts += [f"off with {off}"] if off else []
            parts += [f"on with {on}"] if on else []
        return "; ".join(parts)


@lru_cache(maxsize=16)
def read_template(source: str, bos: str = "", eos: str = "") -> ChatTemplate:
    """Find out what kind of template this is.

    Args:
        source: in Jinja, with the variables that Hugging Face's chat templates use.
        bos, eos: spelling of the vocabulary's begin and end tokens.
    Raises:
        UserError: if there is none, or it cannot be rendered, or there is no place for a final answer in it.
        ModuleNotFoundError: if jinja2 is not installed.
    """
    if not source:
        raise UserError(NO_TEMPLATE)
    with TemplateProcess(source) as process:
        form = _working_form(process, bos, eos)
        form = replace(form, system=_has_system_turn(process, form, bos, eos))
        try:
            return _with_thoughts(process, ChatTemplate(source, bos, eos, form))
        except (OpenThoughtError, ConversationRefusedError) as error:
            raise cannot(str(error)) from None


@dataclass(frozen=True)
class _Tried:
    """What a template writes in one form."""

    form: Form
    prefix: str
    starts: AnswerStarts


def answer_starts(process: TemplateProcess, chat: ChatTemplate, form: Form, turns: Sequence[Turn]) -> tuple[str, AnswerStarts]:
    """The rendered conversation up to its last text, and what the template writes after that, in all cases.

    Args:
        turns: of the conversation; the last one is a question that holds TEXT.
    Raises:
        ConversationRefusedError: if the template rejects the conversation, or leaves its last text out.
        UserError: if it exceeds a bound.
    """
    given = form.given(chat.bos, chat.eos)
    prefix, found, begun = process.render(turns, generate=True, variables=given).rpartition(TEXT)
    if not found:
        raise ConversationRefusedError(LEFT_OUT)
    _check_length(begun)
    closed = _after_text(process, [*turns, form.turn("assistant", REPLY)], given)
    finished = closed.partition(REPLY)[0] if closed and closed.count(REPLY) == 1 else None
    thinking, closing = None, ""
    if chat.fields and closed is not None:
        with_thought = _after_text(process, [*turns, form.turn("assistant", REPLY) | dict(chat.fields)], given) or ""
        thinking, closing = _around_thought(with_thought)
    return prefix, AnswerStarts(begun, finished, thinking, closing, _earlier(process, form, given))


def _around_thought(text: str) -> tuple[str | None, str]:
    """(before the thought, between thought and reply) in a rendered turn that has both once, in this order."""
    before, _, rest = text.partition(THOUGHT)
    closing, found, _ = rest.partition(REPLY)
    once = text.count(THOUGHT) == text.count(REPLY) == 1 and not _PARTS.search(text)
    return (before, closing) if found and once and closing.strip() else (None, "")


def _after_text(process: TemplateProcess, turns: Sequence[Turn], given: Mapping[str, Any]) -> str | None:
    """What a template writes after the last text of a conversation that has been answered; None if it does not render that."""
    try:
        text = process.render(turns, generate=False, variables=given)
    except ConversationRefusedError:
        return None
    _, found, after = text.rpartition(TEXT)
    _check_length(after if found else "")
    return after if found else None


def _check_length(after: str) -> None:
    """Refuse a template that writes a book between a question and its answer: searching it for marks would take long."""
    if len(after) > _LONGEST_START:
        raise ConversationRefusedError(f"it writes more than {_LONGEST_START} characters after a question")


def _earlier(process: TemplateProcess, form: Form, given: Mapping[str, Any]) -> str | None:
    """What a template writes before an earlier answer, after the question."""
    turns = [*form.opened(_HEAD, _FIRST), form.turn("assistant", REPLY), form.turn("user", TEXT)]
    try:
        text = process.render(turns, generate=True, variables=given)
    except ConversationRefusedError:
        return None
    before, found, _ = text.partition(REPLY)
    return before.rpartition(_FIRST)[2] if found and _FIRST in before else None


def _small(form: Form, *, answer: Turn | None = None) -> list[Turn]:
    """A conversation with one earlier answer and a last question."""
    return [*form.opened(_HEAD, _FIRST), answer or form.turn("assistant", REPLY), form.turn("user", TEXT)]


def _working_form(process: TemplateProcess, bos: str, eos: str) -> Form:
    """The first form in which the template renders a conversation; raises UserError with the first one's reason."""
    first = ""
    for typed in (False, True):
        for variables in _WITHOUT_TOOLS:
            form = Form(tuple(variables.items()), typed)
            try:
                text = process.render(_small(form), generate=True, variables=form.given(bos, eos))
            except ConversationRefusedError as error:
                first = first or str(error)
                continue
            if TEXT in text and _FIRST in text:
                return form
            first = first or LEFT_OUT
    raise UserError(first) if first == LEFT_OUT else cannot(first)


def _has_system_turn(process: TemplateProcess, form: Form, bos: str, eos: str) -> bool:
    """Whether a system turn is rendered, once, before the first question."""
    tried = replace(form, system=True)
    try:
        text = process.render(_small(tried), generate=True, variables=tried.given(bos, eos))
    except ConversationRefusedError:
        return False
    before, found, _ = text.partition(_FIRST)
    return bool(found) and text.count(_HEAD) == 1 and _HEAD in before and TEXT in text


def _with_thoughts(process: TemplateProcess, chat: ChatTemplate) -> ChatTemplate:
    """The template with its marks, its field for thoughts, and the forms in which it does without and with them."""
    chat = replace(chat, fields=_thought_field(process, chat))
    cut_at = None if chat.fields else _cut_mark(process, chat.form, chat)
    tried: list[_Tried] = []
    for form in _switch_positions(chat.form, process.facts):
        try:
            tried.append(_Tried(form, *answer_starts(process, chat, form, _small(form))))
        except ConversationRefusedError:
            if not tried:  # the form as it is
                raise
    marks = next(filter(None, (marks_of(one.starts, cut_at) for one in tried)), None)
    if marks is None:
        return chat
    off = max(tried, key=lambda one: _how_off(one, marks, tried[0]))
    on = max(tried, key=lambda one: _how_on(one, marks))
    direct_lead(off.starts, marks)  # refuses a template without a place for an answer
    thinking = on.form if _how_on(on, marks) else None
    kept = bool(chat.fields) and thinking is not None and _keeps(process, replace(chat, form=thinking))
    return replace(chat, form=off.form, thinking=thinking, marks=marks, keeps_thoughts=kept)


def _thought_field(process: TemplateProcess, chat: ChatTemplate) -> tuple[tuple[str, Any], ...]:
    """How a finished turn carries a thought, in any position of the switches; empty if it carries none."""
    for form in _switch_positions(chat.form, process.facts):
        for fields in _FIELDS:
            text = _after_text(process, [*_small(form), form.turn("assistant", REPLY) | fields], form.given(chat.bos, chat.eos))
            if text and _around_thought(text)[0] is not None:
                return tuple(fields.items())
    return ()


def _cut_mark(process: TemplateProcess, form: Form, chat: ChatTemplate) -> str | None:
    """The mark after which alone an earlier answer is kept: what ends a thought in models that write it themselves."""
    marks = [text.strip() for text in process.facts.constants if len(text.strip()) >= _SHORTEST_MARK and not text.strip().isalnum()]
    for mark in sorted(set(marks), key=len):
        answer = form.turn("assistant", f"{_CUT}{mark}{REPLY}")
        try:
            text = process.render(_small(form, answer=answer), generate=True, variables=form.given(chat.bos, chat.eos))
        except ConversationRefusedError:
            continue
        if REPLY in text and _CUT not in text:
            return mark
    return None


def _keeps(process: TemplateProcess, chat: ChatTemplate) -> bool:
    """Whether an earlier answer is rendered with its thought."""
    answer = chat.form.turn("assistant", REPLY) | dict(chat.fields)
    try:
        text = process.render(_small(chat.form, answer=answer), generate=True, variables=chat.form.given(chat.bos, chat.eos))
    except ConversationRefusedError:
        return False
    return THOUGHT in text


def _switch_positions(form: Form, facts: TemplateFacts) -> Iterator[Form]:
    """The form as it is, then with each switch of thinking in each of its positions."""
    yield form
    names = [name for name in facts.undeclared if _SWITCH.search(name) and not _NO_SWITCH.search(name)]
    for name in names[:_MOST_SWITCHES]:
        words = [value for value in facts.compared.get(name, ()) if value and isinstance(value, str)][:_MOST_SWITCHES]
        zero = [0] if 0 in facts.compared.get(name, ()) else []  # before False, which equals 0 but is not written so
        for value in dict.fromkeys([*zero, False, *filter(_means_off, words), True, *filter(_means_on, words), *words]):
            yield replace(form, variables=(*form.variables, (name, value)))
    for text in facts.constants:
        if _IN_WORDS.fullmatch(text):
            yield replace(form, words=text)


def _means_off(value: object) -> bool:
    """Whether a switch's position is called like one without thoughts."""
    return value is False or (value is not None and bool(_OFF.fullmatch(str(value))))


def _means_on(value: object) -> bool:
    """Whether a switch's position is called like one with thoughts."""
    return value is True or bool(_ON.fullmatch(str(value)))


def _position(form: Form) -> object:
    """The position of the form's switch; None if it has none."""
    known = {name for variables in _WITHOUT_TOOLS for name in variables}
    return form.words or next((value for name, value in form.variables if name not in known), None)


def _how_off(one: _Tried, marks: Marks, plain: _Tried) -> int:
    """How surely a form turns thoughts off: 3, it closes one; 2, it is called so and changes what is written; 1, none is begun."""
    if marks.open_in(one.starts.begun):
        return 0
    if marks.closing in one.starts.begun[len(one.starts.bare) :]:
        return 3
    changes = (one.prefix, one.starts) != (plain.prefix, plain.starts)
    return 2 if (changes and _means_off(_position(one.form))) or marks.open_in(plain.starts.begun) else 1


def _how_on(one: _Tried, marks: Marks) -> int:
    """How surely a form turns thoughts on: 3, it opens one; 2, one can begin; 0, none can."""
    if thinking_lead(one.starts, marks) is None or _means_off(_position(one.form)):
        return 0
    return 3 if marks.open_in(one.starts.begun) else 2


def _switched(form: Form) -> str:
    """The form's switch, as `name=value`; empty if it has none."""
    known = {name for variables in _WITHOUT_TOOLS for name in variables}
    return form.words or ", ".join(f"{name}={value}" for name, value in form.variables if name not in known)
