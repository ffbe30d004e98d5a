"""The prompt variants of a run, each with the prefix that all texts share and what follows it for each text.

Where worked examples are chosen by similarity, every text has its own: of each label those most similar to it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.task import Example, Task
from potstill.contract.texts import Text
from potstill.labeler.candidates import Candidates, as_shown, is_narrowed
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import plain, served
from potstill.labeler.prompts.wordings import asked_tasks, own_words, with_all_words
from potstill.labeler.teacher import DECIDING, AnswerSpec, Identity, Mode, PathRequest, Thought
from potstill.models.catalog import ModelFolder


@dataclass(frozen=True)
class Nearest:
    """What similarity chose for each text: worked examples, and the candidates of a task with many labels."""

    examples: Mapping[str, tuple[Example, ...]]  # by text id, the most similar one last
    key: str  # digest of what decided the choice besides task and text
    candidates: Mapping[str, Candidates] = field(default_factory=dict)  # by text id; empty: the teacher is asked about all labels
    groups: tuple[tuple[int, ...], ...] = ()  # of labels, for a first look, before which candidates are those of similarity


@dataclass(frozen=True)
class PromptVariant:
    """One prompt variant of a run."""

    number: int
    mode: Mode
    prefix: str
    spec: AnswerSpec
    paths: tuple[int, ...]  # numbers of the paths that it draws for each text
    task: Task
    selection: int = 0  # number of the choice and order of worked examples
    seed: int = 0  # of the run
    nearest: Nearest | None = None
    words: tuple[int, ...] = ()  # of the wording, among all words of the run; empty: all

    def prompt(self, text: Text) -> str:
        """One text's part of the prompt: what follows the prefix, up to the tail of the answer spec."""
        lines = plain.text_lines(self.task, text.text, text.target)
        block = plain.block(self.task, text.text, text.target, self.mode)
        if self.spec.question:
            return lines
        if not self._candidates(text):
            return lines if self.spec.chat else "\n\n".join((*self._nearest_examples(text), block))
        offer = plain.offer(self.task, self._order(text))
        if self.spec.chat or self.spec.messages:
            return f"{offer}\n\n{lines if self.spec.chat else block}"
        worked = self._candidate_examples(text)
        if len(worked) < len(self._candidates(text)):
            worked.append(offer)
        return "\n\n".join((*worked, block))

    def request(self, text: Text, paths: tuple[int, ...], n_first: int = 0) -> PathRequest:
        """The request for these paths of a text."""
        labels = set(self._candidates(text))
        words = self.words
        if labels:
            n_each = [1 if self.spec.question else len(label.spellings) for label in self.task.labels]
            owners = [place for place, n in enumerate(n_each) for _ in range(n)]
            words = tuple(i for i, owner in enumerate(owners) if owner in labels)
        return PathRequest(text.id, self.prompt(text), paths, n_first, words)

    def _candidates(self, text: Text) -> tuple[int, ...]:
        """The labels that the teacher is asked among, the likeliest first; empty: all."""
        return self.nearest.candidates[text.id].labels if self.nearest and self.nearest.candidates else ()

    def _order(self, text: Text) -> list[int]:
        """The candidates in this variant's order: the likeliest last, then first, then in random orders."""
        labels = list(self._candidates(text))
        if self.selection == 0:
            labels.reverse()
        elif self.selection > 1:
            random.Random(f"{self.seed} {self.selection} {text.id}").shuffle(labels)
        return labels

    def _candidate_examples(self, text: Text) -> list[str]:
        """A worked example of every candidate, in this variant's order; in mode `cot` of those that have a rationale."""
        shown = {example.label: example for example in self.nearest.examples[text.id]} if self.nearest else {}
        names = self.task.label_names
        own = [shown[names[place]] for place in self._order(text) if names[place] in shown]
        kept = [example for example in own if self.mode == "direct" or example.rationale.strip()]
        return [plain.worked_example(self.task, example, self.mode) for example in kept]

    def _nearest_examples(self, text: Text) -> list[str]:
        """The worked examples of this text alone, where the configuration chooses them by similarity."""
        return [plain.worked_example(self.task, example, self.mode) for example in self._own_examples(text)]

    def _own_examples(self, text: Text) -> tuple[Example, ...]:
        """Worked examples of this text alone: the most similar one last in the first selection, shuffled in the others."""
        if self.nearest is None:
            return ()
        own = self.nearest.examples[text.id]
        if self.mode == "cot":
            own = tuple(example for example in own if example.rationale.strip())
        if self.selection == 0:
            return own
        return plain.shuffled(self.task, own, self.selection, random.Random(f"{self.seed} {self.selection}"))


def prompt_variants(task: Task, config: LabelConfig, identity: Identity, nearest: Nearest | None = None) -> list[PromptVariant]:
    """The prompt variants of a run, direct ones first; where the task has several wordings, they take them in turn.

    Args:
        nearest: required if the configuration chooses examples by text (`examples="nearest"`), or the task is narrowed to
            candidates; ignored otherwise.
    Raises:
        UserError: if a chat template is wanted that the teacher lacks, or its server takes no such prompts.
        ValueError: if examples are to be chosen by text and ``nearest`` is None.
    """
    if not task.wordings:
        return _variants(task, config, identity, nearest)
    if is_narrowed(task, config):
        raise UserError(
            f"the task has {len(task.labels)} labels, of which each text is asked among a few, and this works with one wording "
            "alone; delete the wordings, or show every prompt all labels with candidates 0"
        )
    asked = asked_tasks(task)
    if config.n_variants is None and config.mode != "direct":  # paths that reason usually share one prompt
        config = replace(config, n_variants=len(asked))
    by_wording = [_variants(one, config, identity, nearest) for one in asked]
    turns = [number % len(asked) for number in range(len(by_wording[0]))]
    made = [by_wording[turn][number] for number, turn in enumerate(turns)]
    if identity.api in DECIDING:  # asked about labels, not about words
        return made
    words = tuple(word for label in with_all_words(task).labels for word in label.spellings)
    return [
        replace(variant, spec=replace(variant.spec, words=words), words=own_words(task, asked[turn]))
        for variant, turn in zip(made, turns, strict=True)
    ]


def _variants(task: Task, config: LabelConfig, identity: Identity, nearest: Nearest | None) -> list[PromptVariant]:
    """The prompt variants of a task in one wording. Raises as :func:`prompt_variants` does."""
    _check_server(config, identity)
    if is_narrowed(task, config):
        return _narrowed_variants(task, config, identity, nearest)
    if config.examples == "nearest" and not task.examples:
        raise UserError("examples nearest chooses among worked examples, and the task has none; use examples diverse")
    own = nearest if config.examples == "nearest" else None
    if own is None and config.examples == "nearest":
        raise ValueError('examples="nearest" needs the chosen examples')
    n_direct, n_cot = config.direct_variants, config.cot_variants
    n_selections, n_each = max(n_direct, n_cot), config.n_examples_per_label
    selections = plain.example_selections(task, n_selections, n_each, config.seed, examples=config.examples)
    asked: list[tuple[plain.ExampleSelection, Mode]] = [(selections[number], "direct") for number in range(n_direct)]
    asked += [(plain.with_rationales(selections[number]), "cot") for number in range(n_cot)]
    return _framed(task, asked, config, identity, own)


def _framed(
    task: Task,
    asked: Sequence[tuple[plain.ExampleSelection, Mode]],
    config: LabelConfig,
    identity: Identity,
    own: Nearest | None,
) -> list[PromptVariant]:
    """The variants for each choice of worked examples and mode. Args: own, what each text has of its own."""
    around = msgspec.structs.replace(task, labels=[], examples=[]) if own and own.candidates else task
    made: list[PromptVariant] = []
    told = identity.api == "chat" or identity.api in DECIDING  # the server writes what stands around the texts
    frames = [_Frame("")] * len(asked) if told else _frames(around, asked, config, identity)
    for number, ((selection, mode), frame) in enumerate(zip(asked, frames, strict=True)):
        # Variants beyond the number of paths belong to the run too: a later command may ask for more paths.
        end, step = (min(number + 1, config.most_paths), 1) if mode == "direct" else (config.most_paths, config.cot_variants)
        spec, prefix = _answer_spec(task, mode, frame, config), frame.prefix
        if identity.api == "chat":
            messages = served.conversation(around, selection, mode, guideline=config.guideline)
            spec, prefix = replace(spec, messages=messages, chat=False), served.picture(messages, None)
        elif identity.api in DECIDING:
            question = served.question(task, number, guideline=config.guideline)
            words = tuple(label.spellings[0] for label in task.labels)
            spec, prefix = replace(spec, question=question, words=words, chat=False), served.picture((), question)
        made.append(
            PromptVariant(number, mode, prefix, spec, tuple(range(number, end, step)), task, selection.number, config.seed, own)
        )
    return made


def _narrowed_variants(task: Task, config: LabelConfig, identity: Identity, nearest: Nearest | None) -> list[PromptVariant]:
    """The variants of a task with many labels: the candidates stand with their worked examples in each text's own part.

    Raises:
        UserError: if nothing says which candidates each text has.
    """
    if nearest is None or not nearest.candidates:
        raise UserError(
            f"the task has {len(task.labels)} labels, of which each text is asked among at most {config.candidates}, and this "
            "command finds none; use potstill label, or candidates 0 to show every prompt all labels"
        )
    n_direct, n_cot = config.direct_variants, config.cot_variants
    asked: list[tuple[plain.ExampleSelection, Mode]] = [(plain.ExampleSelection(i, ()), "direct") for i in range(n_direct)]
    asked += [(plain.ExampleSelection(i, ()), "cot") for i in range(n_cot)]
    return _framed(as_shown(task), asked, replace(config, examples="diverse"), identity, nearest)


def one_variant(task: Task, number: int, config: LabelConfig, identity: Identity, nearest: Nearest | None = None) -> PromptVariant:
    """One prompt variant by its number.

    Args:
        number: from 0; it may exceed the number that the configuration asks for.
        identity: of the teacher; its template is needed where the configuration wants a conversation.
    Raises:
        UserError: as :func:`prompt_variants` does, and if the configuration contradicts itself.
    """
    n_made = max(1, number + 1 - (config.n_direct if config.mode == "cascade" else 0))
    wide = replace(config, n_variants=n_made, n_paths=n_made)
    return prompt_variants(task, wide, identity, nearest)[number]


def prompts_digest(variants: Sequence[PromptVariant]) -> str:
    """SHA-256 of all prompt parts that do not come from a text, and of how worked examples were chosen for the texts."""
    chosen = {variant.nearest.key for variant in variants if variant.nearest}
    return digest.of_value([*map(_parts, variants), *sorted(chosen)])


def _parts(variant: PromptVariant) -> list[str]:
    """All parts of a variant's prompts that do not come from a text."""
    thought = variant.spec.thought
    return [variant.prefix, variant.spec.tail, *([thought.stop, thought.closing] if thought else [])]


def nearest_examples(task: Task, texts: Sequence[Text], n_per_label: int, backbone: ModelFolder) -> Nearest:
    """Choose the most similar worked examples of every label for each text; of two equally similar ones, the earlier wins.

    Args:
        texts: the texts to be labelled.
        n_per_label: examples per label, at least 1; fewer where the task has fewer.
        backbone: the encoder whose embeddings measure similarity.
    Raises:
        FormatError: if the backbone cannot be read.
        ModuleNotFoundError: if torch or transformers is not installed.
    """
    from potstill.labeler.embeddings import embeddings  # torch is loaded only here

    examples = [Text(example.text, target=example.target) for example in task.examples]
    vectors = embeddings([*texts, *examples], backbone.path)
    similar = vectors[: len(texts)] @ vectors[len(texts) :].T  # [N, E]; rows have length 1, so these are cosines
    by_label = [[i for i, example in enumerate(task.examples) if example.label == name] for name in task.label_names]
    chosen: dict[str, tuple[Example, ...]] = {}
    for text, row in zip(texts, similar.tolist(), strict=True):
        kept = [i for own in by_label for i in sorted(own, key=lambda i: (-row[i], i))[:n_per_label]]
        chosen[text.id] = tuple(task.examples[i] for i in sorted(kept, key=lambda i: (row[i], -i)))
    return Nearest(chosen, digest.of_value([n_per_label, backbone.sha256]))


def chosen_by_similarity(task: Task, texts: Sequence[Text], config: LabelConfig, backbone: ModelFolder | None) -> Nearest | None:
    """What each text has of its own: candidates with their worked examples, or worked examples alone; None where it has neither.

    Args:
        backbone: the encoder whose embeddings measure similarity; None: there is none, and the first look alone narrows.
    Raises:
        FormatError: if the backbone cannot be read.
        ModuleNotFoundError: if torch or transformers is not installed.
    """
    if is_narrowed(task, config):
        from potstill.labeler.narrowing import narrowed, not_narrowed  # numpy is loaded only here

        key = [config.candidates, backbone.sha256 if backbone else "", *([config.first_look] if config.first_look else [])]
        if backbone is None:
            found = not_narrowed(task, texts, config.candidates, config.first_look)
        else:
            found = narrowed(task, texts, config.candidates, backbone, config.first_look)
        return Nearest(found.examples, digest.of_value(key), found.candidates, found.groups)
    if config.examples != "nearest" or backbone is None:
        return None
    return nearest_examples(task, texts, config.n_examples_per_label, backbone)


@dataclass(frozen=True)
class _Frame:
    """What stands around the texts of a variant."""

    prefix: str
    tail: str = ""
    thought: Thought | None = None


def _frames(
    task: Task, asked: Sequence[tuple[plain.ExampleSelection, Mode]], config: LabelConfig, identity: Identity
) -> list[_Frame]:
    """What stands around the texts, for each choice of worked examples and mode; tails are empty outside a conversation."""
    if config.template == "chat":
        from potstill.labeler.prompts import chat  # starts a process; a plain prompt needs none

        found = chat.conversations(task, asked, config, identity)
        return [_Frame(one.prefix, one.tail, one.thought) for one in found]
    if config.examples == "nearest":
        return [_Frame(plain.head(task, guideline=config.guideline) + "\n\n") for _ in asked]
    return [_Frame(plain.prefix(task, selection, mode, guideline=config.guideline)) for selection, mode in asked]


def _check_server(config: LabelConfig, identity: Identity) -> None:
    """Refuse what a chat or decision server cannot be asked; raises UserError."""
    if identity.api == "chat" and config.examples == "nearest":
        raise UserError(
            "examples nearest needs a server that continues texts: in a conversation the worked examples come before all texts; "
            "use --api completions, or examples diverse"
        )
    if identity.api in ("completions", "ollama") and config.template == "chat" and not identity.chat_template:
        raise UserError(
            "this server continues texts, and does not tell its model's chat template; use --api chat, in which the server writes "
            "the conversation, or --template plain"
        )
    if identity.api in DECIDING and config.mode != "direct":
        raise UserError(
            f"mode {config.mode} needs a teacher that writes; this server decides at once (api {identity.api}), so use mode direct"
        )


def _answer_spec(task: Task, mode: Mode, frame: _Frame, config: LabelConfig) -> AnswerSpec:
    """The answer spec of a variant."""
    return AnswerSpec(
        mode=mode,
        words=tuple(word for label in task.labels for word in label.spellings),
        rationale_cue=plain.cue(task, "cot"),
        answer_cue=plain.cue(task, "direct"),
        temperature=config.temperature,
        max_rationale_tokens=config.max_thought_tokens if frame.thought else config.max_rationale_tokens,
        chat=config.template == "chat",
        tail=frame.tail,
        thought=frame.thought,
    )
