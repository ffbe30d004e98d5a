"""The questions of a run: one for each prompt variant, with the prefix that all texts share and what follows it for each text."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from potstill.contract.files import digest
from potstill.contract.task import Example, Task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig, check_config
from potstill.labeler.prompts import plain
from potstill.labeler.teacher import AnswerSpec, Identity, Mode


@dataclass(frozen=True)
class Nearest:
    """Worked examples chosen for each text."""

    examples: Mapping[str, tuple[Example, ...]]  # by text id, the most similar one last
    key: str  # names whatever decided the choice beside task and text


@dataclass(frozen=True)
class PromptVariant:
    """One prompt variant as it is put to the teacher."""

    number: int
    mode: Mode
    prefix: str
    spec: AnswerSpec
    paths: tuple[int, ...]  # numbers of the paths that it draws for each text
    task: Task
    variant: int = 0  # number of the choice and order of worked examples
    seed: int = 0  # of the run
    nearest: Nearest | None = None

    def prompt(self, text: Text) -> str:
        """What follows the prefix for one text, up to the reading's tail."""
        if self.spec.chat:
            return plain.told(self.task, text.text, text.target)
        worked = [plain.worked(self.task, example, self.mode) for example in self._own_examples(text)]
        return "\n\n".join((*worked, plain.block(self.task, text.text, text.target, self.mode)))

    def _own_examples(self, text: Text) -> tuple[Example, ...]:
        """Worked examples of this text alone: in the first variant the most similar one last, in the others shuffled."""
        if self.nearest is None:
            return ()
        own = self.nearest.examples[text.id]
        if self.variant == 0:
            return own
        return plain.shuffled(self.task, own, self.variant, random.Random(f"{self.seed} {self.variant}"))


def questions(task: Task, config: LabelConfig, identity: Identity, nearest: Nearest | None = None) -> list[PromptVariant]:
    """The variants of a run, direct ones first.

    Args:
        nearest: needed where the configuration chooses examples by text (`examples="nearest"`), not looked at elsewhere.
    Raises:
        UserError: if a chat template is asked for that the teacher lacks.
        ValueError: if examples are to be chosen by text and nobody chose them.
    """
    own = nearest if config.examples == "nearest" else None
    if own is None and config.examples == "nearest":
        raise ValueError('examples="nearest" needs the chosen examples')
    n_direct, n_cot = config.direct_variants, config.cot_variants
    made = plain.variants(task, max(n_direct, n_cot), config.n_examples_per_label, config.seed, examples=config.examples)
    asked: list[PromptVariant] = []
    for number in range(n_direct + n_cot):
        mode: Mode = "direct" if number < n_direct else "cot"
        variant = made[number if mode == "direct" else number - n_direct]
        prefix, tail = _frame(task, variant, mode, config, identity)
        # variants beyond the number of paths are part of the run too: a later one may ask for more
        paths = range(number, min(number + 1, config.most_paths)) if mode == "direct" else range(number, config.most_paths, n_cot)
        spec = _answer_spec(task, mode, tail, config)
        asked.append(PromptVariant(number, mode, prefix, spec, tuple(paths), task, variant.number, config.seed, own))
    return asked


def whole_prompt(
    task: Task, text: Text, number: int, config: LabelConfig, chat_template: str = "", nearest: Nearest | None = None
) -> str:
    """All that the teacher reads of one text up to the cue that it continues, in the run's variant of that number.

    Args:
        number: of the variant, from 0, however many the configuration asks for.
        chat_template: the teacher's own, where the configuration wants it.
    Raises:
        UserError: as :func:`questions` does, and if the configuration contradicts itself.
    """
    n_made = max(1, number + 1 - (config.n_direct if config.mode == "cascade" else 0))
    wide = replace(config, n_variants=n_made, n_paths=n_made)
    check_config(wide)
    question = questions(task, wide, Identity("", "", "", "", chat_template), nearest)[number]
    return question.prefix + question.prompt(text) + question.spec.tail


def questions_digest(asked: Sequence[PromptVariant]) -> str:
    """SHA-256 of everything in the prompts that does not come from a text, and of how worked examples were chosen for the texts."""
    chosen = {question.nearest.key for question in asked if question.nearest}
    return digest.of_value([*([question.prefix, question.spec.tail] for question in asked), *sorted(chosen)])


def _frame(task: Task, variant: plain.ExampleSelection, mode: Mode, config: LabelConfig, identity: Identity) -> tuple[str, str]:
    """(prefix, tail) of a variant."""
    if config.template == "chat":
        from potstill.labeler.prompts import chat  # jinja2 is loaded only here

        return chat.conversation(task, variant, mode, guideline=config.guideline, template=identity.chat_template)
    if config.examples == "nearest":
        return plain.head(task, guideline=config.guideline) + "\n\n", ""
    return plain.prefix(task, variant, mode, guideline=config.guideline), ""


def _answer_spec(task: Task, mode: Mode, tail: str, config: LabelConfig) -> AnswerSpec:
    """How the answers are drawn and read."""
    return AnswerSpec(
        mode=mode,
        words=tuple(word for label in task.labels for word in label.spellings),
        rationale_cue=plain.cue(task, "cot"),
        answer_cue=plain.cue(task, "direct"),
        temperature=config.temperature,
        max_rationale_tokens=config.max_rationale_tokens,
        chat=config.template == "chat",
        tail=tail,
    )
