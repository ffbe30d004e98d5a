"""The prompt as a conversation in the model's own chat template: worked examples are earlier turns, the text is the last one.

The rendered conversation is split at the last text: before it stands the prefix that all texts share, after it the tail, which ends
where the teacher goes on: at the first letter of its final answer, or of its thought.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.contract.errors import UserError
from potstill.contract.task import Example, Task
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import plain
from potstill.labeler.prompts.plain import ExampleSelection
from potstill.labeler.prompts.rendering import ConversationRefusedError, TemplateProcess, Turn, cannot
from potstill.labeler.prompts.template import LEFT_OUT, REPLY, TEXT, THOUGHT, ChatTemplate, Form, answer_starts, read_template
from potstill.labeler.prompts.thoughts import OpenThoughtError, direct_lead, thinking_lead
from potstill.labeler.teacher import Identity, Mode, Thought


@dataclass(frozen=True)
class Conversation:
    """A rendered conversation around the place of the text."""

    prefix: str  # without the opening token, where the tokenizer puts one
    tail: str  # what follows the text, up to the teacher's first letter
    thought: Thought | None = None  # set if the teacher thinks first


def conversations(
    task: Task, wanted: Iterable[tuple[ExampleSelection, Mode]], config: LabelConfig, identity: Identity
) -> list[Conversation]:
    """Render a conversation for each choice of worked examples and mode.

    Args:
        config: whether prompts hold the guideline, and whether the teacher thinks.
        identity: of the teacher, with its template and the spelling of its begin and end tokens.
    Raises:
        UserError: if there is no template, it cannot be rendered, drops the last text, or has no place for wanted thoughts.
    """
    chat = read_template(identity.chat_template, identity.bos, identity.eos)
    with TemplateProcess(chat.source) as process:
        made = [_conversation(task, selection, mode, config, chat, process) for selection, mode in wanted]
    if not (identity.adds_bos and identity.bos):
        return made
    return [Conversation(one.prefix.removeprefix(identity.bos), one.tail, one.thought) for one in made]


def thinks(chat: ChatTemplate, mode: Mode, config: LabelConfig) -> bool:
    """Whether rationales are sampled in the template's place for thoughts; raises UserError if they shall be and there is none."""
    if mode == "direct" or config.thoughts == "off":
        return False
    if config.thoughts == "on" and chat.thinking is None:
        raise UserError("the teacher's chat template has no place for thoughts; use --thoughts auto")
    return chat.thinking is not None


def _conversation(
    task: Task, selection: ExampleSelection, mode: Mode, config: LabelConfig, chat: ChatTemplate, process: TemplateProcess
) -> Conversation:
    """One conversation; see :func:`conversations`."""
    thinking = chat.thinking if thinks(chat, mode, config) else None
    form = thinking or chat.form
    head = plain.head(task, guideline=config.guideline, order=plain.order_of(task, selection))
    turns = turns_of(task, selection, mode, head, form, chat if thinking else None)
    try:
        prefix, starts = answer_starts(process, chat, form, turns)
        if thinking is None:
            return Conversation(prefix, direct_lead(starts, chat.marks) + plain.cue(task, mode))
        if (found := thinking_lead(starts, chat.marks)) is None:
            raise ConversationRefusedError("it opens no thought in this conversation")
    except (ConversationRefusedError, OpenThoughtError) as error:
        raise UserError(LEFT_OUT) if str(error) == LEFT_OUT else cannot(str(error)) from None
    return Conversation(prefix, *found)


def turns_of(
    task: Task, selection: ExampleSelection, mode: Mode, head: str, form: Form, thinking: ChatTemplate | None
) -> Sequence[Turn]:
    """The turns of a conversation up to its last question, in which TEXT stands for the text.

    Args:
        head: guideline, question and answers.
        thinking: the template if worked examples are to be answered as after a thought; None: they answer in their own words.
    """
    questions = [plain.text_lines(task, example.text, example.target) for example in selection.examples] + [TEXT]
    turns = form.opened(head, questions[0])
    for example, question in zip(selection.examples, questions[1:], strict=True):
        turns.append(_answer(task, example, mode, form, thinking))
        turns.append(form.turn("user", question))
    return turns


def _answer(task: Task, example: Example, mode: Mode, form: Form, thinking: ChatTemplate | None) -> Turn:
    """A worked example's answer as a turn: with its rationale as a thought where the template keeps those of earlier turns."""
    if thinking is None:
        return form.turn("assistant", plain.cue(task, mode) + plain.answer(task, example, mode))
    content = plain.cue(task, "direct") + plain.answer(task, example, "direct")
    answer = form.turn("assistant", content)
    rationale = " ".join(example.rationale.split())
    if not (thinking.keeps_thoughts and rationale):
        return answer
    return {**answer, **{name: filled(value, rationale, content) for name, value in thinking.fields}}


def filled(value: Any, thought: str, reply: str) -> Any:
    """A field of a turn with thought and reply in the place of what stands for them."""
    if isinstance(value, str):
        return {THOUGHT: thought, REPLY: reply}.get(value, value)
    if isinstance(value, list):
        return [filled(part, thought, reply) for part in value]
    return {name: filled(part, thought, reply) for name, part in value.items()}
