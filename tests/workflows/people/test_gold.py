"""`potstill labels gold` writes what people decided, in the form that everything else reads, and nothing else."""

import json
import subprocess

import pytest
from support.review_pages import some_texts, write_store
from support.small_task import SMALL_TASK

from potstill.contract.errors import FormatError, UserError
from potstill.contract.texts import read_texts
from potstill.labeler.store.people import HumanDecision, Journal
from potstill.review.people.gold import GoldChoice
from potstill.workflows.labels import soft_labels
from potstill.workflows.people.gold import gather_gold

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    write_store(tmp_path / "labels.db", tmp_path / "task.toml", some_texts(6))
    return tmp_path


def decide(folder, *decisions):
    """Write (person, text, label, mode) into the journal."""
    with Journal.open(folder / "labels.db") as journal:
        for number, (person, text_id, label, mode) in enumerate(decisions):
            journal.add([HumanDecision(entry=f"e{number}", text_id=text_id, person=person, labels=label, mode=mode)])


def test_gold_is_read_by_what_reads_gold_and_soft_labels_stay_as_they_are(folder):
    soft_labels.derive(folder / "labels.db", folder / "before.jsonl")
    decide(folder, ("ann", "t1", "up", "random"), ("ann", "t2", "down", "search"), ("bob", "t3", "down", "overlap"))
    found = gather_gold(folder / "labels.db", folder / "gold.jsonl")
    read = read_texts(folder / "gold.jsonl", labels=["up", "down"], gold=True).texts
    assert read == found.texts and {text.id: text.gold for text in read} == {"t1": "up", "t3": "down"}
    soft_labels.derive(folder / "labels.db", folder / "after.jsonl")
    assert (folder / "before.jsonl").read_bytes() == (folder / "after.jsonl").read_bytes()


def test_the_console_says_what_was_written_and_what_was_left_out(folder, console):
    decide(
        folder,
        ("ann", "t1", "up", "random"),
        ("bob", "t1", "down", "random"),
        ("ann", "t2", "down", "random"),
        ("ann", "t3", "up", "ranked"),
    )
    done = subprocess.run(
        [*console, "labels", "gold", "labels.db", "gold.jsonl"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "gold.jsonl: 1 gold texts with 1 answers, 0 of them resolved",
        "1 answers are left out: people disagree and nobody has resolved it (page Disagreements)",
        "1 texts are left out: not found at random (--mode all takes them)",
    ]
    assert json.loads((folder / "gold.jsonl").read_text()) == {"text": "text number 2 says buy", "id": "t2", "gold": "down"}


def test_single_people_and_all_modes_can_be_asked_for(folder):
    decide(folder, ("ann", "t1", "up", "random"), ("bob", "t1", "down", "random"), ("bob", "t3", "up", "ranked"))
    found = gather_gold(folder / "labels.db", folder / "gold.jsonl", GoldChoice(mode="all", people=("bob",)))
    assert {text.id: text.gold for text in found.texts} == {"t1": "down", "t3": "up"}


def test_worked_examples_of_the_task_are_left_out(folder):
    task = SMALL_TASK.replace('text = "I buy"', 'text = "text  number 1 says buy"')
    (folder / "task.toml").write_text(task)
    decide(folder, ("ann", "t1", "up", "random"), ("ann", "t2", "up", "random"))
    found = gather_gold(folder / "labels.db", folder / "gold.jsonl", task=folder / "task.toml")
    assert [text.id for text in found.texts] == ["t2"] and found.n_shown == 1


def test_what_would_write_nothing_is_refused_with_the_next_step(folder):
    with pytest.raises(UserError, match=r"no label to write .*; label texts with: potstill review .*labels.db --task TASK"):
        gather_gold(folder / "labels.db", folder / "gold.jsonl")
    decide(folder, ("ann", "t1", "up", "random"))
    with pytest.raises(UserError, match=r"'eve' has decided nothing; those who have: ann"):
        gather_gold(folder / "labels.db", folder / "gold.jsonl", GoldChoice(people=("eve",)))
    with pytest.raises(FormatError, match=r"unknown kind '.csv'; gold is written as .jsonl"):
        gather_gold(folder / "labels.db", folder / "gold.csv")
    assert not (folder / "gold.jsonl").exists()
