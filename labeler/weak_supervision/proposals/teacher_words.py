"""Words that the teacher names: shown a text that it is unsure of and the label it leans to, it writes what speaks for the label.

Source of the approach: DataSculpt, Guan et al. 2025, EDBT 28: a language model writes keyword rules from worked examples, and
filters keep those that are worth having. Here the gate is the filter, the same as for words that were counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from potstill.contract.system.progress import counted
from potstill.contract.task import Rule, Task
from potstill.contract.texts import Text
from potstill.labeler.prompts import plain
from potstill.labeler.teacher import PathRequest, Teacher, TeacherPath
from potstill.labeler.weak_supervision.proposals.gate import Proposal, TeacherLabels
from potstill.labeler.weak_supervision.proposals.words import LONGEST, phrases

ORIGIN = "teacher"
CUE = "Words that show it:"
N_TEXTS = 60  # that the teacher is shown
N_PATHS = 2  # answers for each
N_PER_LABEL = 8  # proposals of a label, those that were named most often
MAX_TOKENS = 24  # of an answer
TEMPERATURE = 0.5
MIN_CHARS = 3  # of a phrase


def propose_by_teacher(
    task: Task, teacher: TeacherLabels, writer: Teacher, shown: Mapping[str, Sequence[str]], seed: int = 0
) -> list[Proposal]:
    """The phrases that a teacher names most often for each label, as keyword rules; each stands in the text it was named for.

    Args:
        task: whose worked examples are shown, with words in them that are known to speak for their labels.
        teacher: the labels so far; texts of the judging half are not shown.
        writer: the teacher that writes.
        shown: by label, words that speak for it; a worked example without any of its label's words is not shown.
        seed: of the sampled answers.
    Raises:
        UserError: if the teacher fails.
    """
    places = [int(i) for i in np.flatnonzero(~teacher.judging)]
    unsure = sorted(places, key=lambda i: float(teacher.probs[i].max()))[:N_TEXTS]
    texts = {teacher.texts[i].id: teacher.texts[i] for i in unsure}
    leaning = {teacher.texts[i].id: teacher.labels[int(teacher.probs[i].argmax())] for i in unsure}
    requests = [
        PathRequest(text_id, _block(task, text, leaning[text_id]), tuple(range(N_PATHS))) for text_id, text in texts.items()
    ]
    spec = plain.written_after(task, CUE, TEMPERATURE, MAX_TOKENS)
    named: Counter[tuple[str, str]] = Counter()
    answers = writer.answer(_prefix(task, shown), 0, requests, spec, seed)
    for path in counted(answers, "ask for words", len(requests) * N_PATHS):
        if isinstance(path, TeacherPath):
            label = leaning[path.text_id]
            named.update((label, phrase) for phrase in named_phrases(path.rationale, texts[path.text_id].text))
    found = []
    for label in task.label_names:
        own = [phrase for name, phrase in named if name == label]
        best = sorted(own, key=lambda phrase: (-named[label, phrase], phrase))[:N_PER_LABEL]
        found += [Proposal(Rule(name=f"{label}: {phrase}", label=label, keywords=[phrase]), ORIGIN) for phrase in best]
    return found


def named_phrases(answer: str, text: str) -> set[str]:
    """The phrases of an answer that stand in the text, of at most three words, in small letters. Args: answer, with commas."""
    known = set(phrases(text))
    parts = (part.strip(" .\"'“”‘’").lower() for part in answer.split(","))
    return {part for part in parts if len(part) >= MIN_CHARS and len(part.split()) <= LONGEST and part in known}


def _prefix(task: Task, shown: Mapping[str, Sequence[str]]) -> str:
    """The question, and the worked examples with the words of their label that stand in them."""
    blocks = [plain.head(task)]
    for example in task.examples:
        known = set(phrases(example.text))
        words = [word for word in shown.get(example.label, ()) if word in known]
        if words:
            text = Text(example.text, "", example.target)
            blocks.append(f"{_block(task, text, example.label)} {', '.join(words)}")
    return "\n\n".join(blocks) + "\n\n"


def _block(task: Task, text: Text, label: str) -> str:
    """A text, its answer, and the cue for the words."""
    word = next(one.spellings[0] for one in task.labels if one.name == label)
    return f"{plain.text_lines(task, text.text, text.target)}\n{plain.cue(task, 'direct')} {word}\n{CUE}"
