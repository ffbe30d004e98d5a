"""The questions of a run: one for each prompt variant, with the prefix that all texts share and what follows it for each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contract import digest
from contract.task import Example, Task
from contract.texts import Text
from labeler import chat, prompt
from labeler.config import LabelConfig
from labeler.teacher import Identity, Mode, Reading

Nearest = Callable[[Text], tuple[Example, ...]]  # the worked examples for a text, most similar last


@dataclass(frozen=True)
class Question:
    """One prompt variant as it is put to the teacher."""

    number: int
    mode: Mode
    prefix: str
    reading: Reading
    paths: tuple[int, ...]  # numbers of the paths that it draws for each text
    task: Task
    nearest: Nearest | None = None

    def prompt(self, text: Text) -> str:
        """What follows the prefix for one text, up to the reading's tail."""
        if self.reading.chat:
            return prompt.told(self.task, text.text, text.target)
        worked = [prompt.worked(self.task, example, self.mode) for example in self.nearest(text)] if self.nearest else []
        return "\n\n".join((*worked, prompt.block(self.task, text.text, text.target, self.mode)))


def questions(task: Task, config: LabelConfig, identity: Identity, nearest: Nearest | None = None) -> list[Question]:
    """The variants of a run, direct ones first.

    Args:
        nearest: needed where the configuration chooses examples by text (`examples="nearest"`).
    Raises:
        UserError: if a chat template is asked for that the teacher lacks.
    """
    n_direct, n_cot = config.direct_variants, config.cot_variants
    made = prompt.variants(task, max(n_direct, n_cot), config.n_examples_per_label, config.seed, examples=config.examples)
    asked: list[Question] = []
    for number in range(n_direct + n_cot):
        mode: Mode = "direct" if number < n_direct else "cot"
        variant = made[number if mode == "direct" else number - n_direct]
        prefix, tail = _frame(task, variant, mode, config, identity)
        # variants beyond the number of paths are part of the run too: a later one may ask for more
        paths = range(number, min(number + 1, config.most_paths)) if mode == "direct" else range(number, config.most_paths, n_cot)
        asked.append(Question(number, mode, prefix, _reading(task, mode, tail, config), tuple(paths), task, nearest))
    return asked


def questions_digest(asked: Sequence[Question]) -> str:
    """SHA-256 of everything in the prompts that does not come from a text."""
    return digest.of_value([[question.prefix, question.reading.tail] for question in asked])


def _frame(task: Task, variant: prompt.Variant, mode: Mode, config: LabelConfig, identity: Identity) -> tuple[str, str]:
    """(prefix, tail) of a variant."""
    if config.template == "chat":
        return chat.conversation(task, variant, mode, guideline=config.guideline, template=identity.chat_template)
    if config.examples == "nearest":
        return prompt.head(task, guideline=config.guideline) + "\n\n", ""
    return prompt.prefix(task, variant, mode, guideline=config.guideline), ""


def _reading(task: Task, mode: Mode, tail: str, config: LabelConfig) -> Reading:
    """How the answers are drawn and read."""
    return Reading(
        mode=mode,
        words=tuple(word for label in task.labels for word in label.spellings),
        rationale_cue=prompt.cue(task, "cot"),
        answer_cue=prompt.cue(task, "direct"),
        temperature=config.temperature,
        max_rationale_tokens=config.max_rationale_tokens,
        chat=config.template == "chat",
        tail=tail,
    )
