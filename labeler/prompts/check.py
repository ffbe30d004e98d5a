"""What a teacher's chat template does, in lines for a person: its kind, where the label is read, what will not work."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.contract.errors import UserError
from potstill.labeler.prompts.rendering import ConversationRefusedError, TemplateProcess
from potstill.labeler.prompts.template import TEXT, ChatTemplate, Form, answer_starts, read_template
from potstill.labeler.prompts.thoughts import OpenThoughtError, direct_lead, thinking_lead
from potstill.labeler.teacher import AnswerSpec, Identity, Thought
from potstill.models.gguf import Header

SHOWN = 60  # characters of a prompt's end


@dataclass(frozen=True)
class TemplateReport:
    """How a conversation with a teacher ends, in both modes."""

    kind: str  # one line: roles, thoughts, switches; empty if the template cannot be used
    direct: str = ""  # the prompt up to the first letter of a final answer without a thought
    thinking: str = ""  # up to the first letter of a thought; empty: there is no place for one
    thought: Thought | None = None
    broken: tuple[str, ...] = ()  # what will not work, each with its reason

    def as_text(self) -> str:
        """A few lines."""
        lines = [f"chat template: {self.kind}"] if self.kind else []
        if self.direct:
            lines.append(f"direct: the label is read after {ending(self.direct)}")
        if self.thought:
            lines.append(f"cot: a thought begins after {ending(self.thinking)}; {read_after(self.thought)}")
        elif self.direct:
            lines.append("cot: the rationale is written in the answer itself; there is no place for thoughts")
        return "\n".join([*lines, *(f"will not work: {line}" for line in self.broken)])


def identity_of(header: Header) -> Identity:
    """What a file's header says about conversations with the teacher in it."""
    return Identity("", "", "", "", header.chat_template, header.bos, header.eos, header.adds_bos)


def check_template(identity: Identity) -> TemplateReport:
    """Look at the template of a teacher with a small conversation.

    Args:
        identity: with the template and the spelling of begin and end tokens; nothing else of it is read.
    """
    try:
        chat = read_template(identity.chat_template, identity.bos, identity.eos)
        with TemplateProcess(chat.source) as process:
            direct = _ends(process, chat, chat.form)[0]
            thinking, thought = _ends(process, chat, chat.thinking)[1] if chat.thinking else ("", None)
    except UserError as error:
        return TemplateReport("", broken=(f"--template chat: {error}",))
    except (ConversationRefusedError, OpenThoughtError) as error:
        return TemplateReport("", broken=(f"--template chat: {error}; use --template plain",))
    broken = () if thought else ("--thoughts on: the template has no place for thoughts",)
    if "eos_token" in identity.chat_template and not identity.eos:
        broken = (*broken, "end tokens: the template writes one, and the vocabulary does not say how it is spelled")
    return TemplateReport(chat.kind, direct, thinking, thought, broken)


def asked_how(spec: AnswerSpec, identity: Identity) -> str:
    """One line about a prompt: what kind it is, and where the label is read."""
    if not spec.chat:
        return f"a document to continue; the label is read after {spec.answer_cue!r}"
    kind = read_template(identity.chat_template, identity.bos, identity.eos).kind
    if spec.thought:
        how = f"up to {spec.max_rationale_tokens} tokens of thought; {read_after(spec.thought, spec.answer_cue)}"
    elif spec.mode == "cot":
        first = f"a rationale of up to {spec.max_rationale_tokens} tokens in the answer"
        how = f"{first}; then the label is read after {spec.answer_cue!r}"
    else:
        how = f"the label is read after {ending(spec.tail)}"
    return f"chat template: {kind}; {how}"


def read_after(thought: Thought, cue: str = "") -> str:
    """Where the label is read once a thought has ended."""
    return f"it ends at {thought.stop!r}, and the label is read after {thought.closing + cue!r}"


def ending(prompt: str) -> str:
    """The last characters of a prompt, with line breaks and control characters visible."""
    return repr(prompt if len(prompt) <= SHOWN else "…" + prompt[-SHOWN:])


def _ends(process: TemplateProcess, chat: ChatTemplate, form: Form) -> tuple[str, tuple[str, Thought | None]]:
    """The ends of a small conversation: before a final answer, and before a thought with the way it ends."""
    turns = [*form.opened("Is it good?", "Fine."), form.turn("assistant", "Yes"), form.turn("user", TEXT)]
    starts = answer_starts(process, chat, form, turns)[1]
    found = thinking_lead(starts, chat.marks)
    return direct_lead(starts, chat.marks), found or ("", None)
