"""`potstill labels gold`: what people decided about the texts of a store, as a file of gold texts."""

from __future__ import annotations

from pathlib import Path

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic
from potstill.contract.questions.questionnaire import load_any_task
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.people import stored_decisions
from potstill.labeler.store.questions import labelling, questions_of
from potstill.review.people.answers import ONLY
from potstill.review.people.decided import Decided
from potstill.review.people.gold import GatheredGold, GoldChoice, gathered_gold, gold_file

_CHOICE = GoldChoice()


def gather_gold(
    store: str | Path, file: str | Path, choice: GoldChoice = _CHOICE, *, task: str | Path | None = None, run: int | None = None
) -> GatheredGold:
    """Write what people decided as gold texts, a file that calibration, certificates, tuning and evaluation read.

    Soft labels for training are not touched.

    Args:
        file: the .jsonl to write.
        choice: whose labels count, of which texts.
        task: a task's file; texts that it shows as worked examples are left out.
        run: number of a run, which says what the questions are; None: the newest.
    Raises:
        FormatError: if the store or the task is damaged, or the file is not named .jsonl.
        UserError: if nobody has decided anything that would be written.
    """
    if Path(file).suffix.lower() != ".jsonl":
        raise FormatError(file, "", f"unknown kind {Path(file).suffix!r}; gold is written as .jsonl")
    shown = {" ".join(example.text.split()) for example in load_any_task(task).examples} if task is not None else set()
    with LabelStore.read(Path(store)) as opened:
        found = opened.find_run(run)
        names = [question.name for question in questions_of(labelling(opened, found))] if found.settings.question else [ONLY]
        texts, decided = opened.texts(), Decided(stored_decisions(opened))
    unknown = [person for person in choice.people if person not in decided.people()]
    if unknown:
        raise UserError(f"{store}: {unknown[0]!r} has decided nothing; those who have: {', '.join(decided.people()) or 'nobody'}")
    gold = gathered_gold(texts, names, decided, choice, shown)
    if not gold.texts:
        found_none = "; ".join(gold.as_text().split("\n"))
        raise UserError(f"{store}: no label to write ({found_none}); label texts with: potstill review {store} --task TASK")
    atomic.write_file(Path(file), gold_file(gold.texts, names))
    return gold
