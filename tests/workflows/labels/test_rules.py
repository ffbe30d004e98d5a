"""`potstill labels propose`: from a store to accepted rules that vote, with the real teacher where it writes."""

import random

import pytest
from support.review_pages import write_store
from support.small_task import SMALL_TASK

from potstill.commands.main import run as console
from potstill.contract.errors import UserError
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teacher import TeacherPath
from potstill.labeler.weak_supervision.config import ProposeConfig
from potstill.workflows.labels.combining import combine
from potstill.workflows.labels.rules import accept_rules, propose_rules

pytestmark = pytest.mark.slow

FILLERS = "the price will today maybe acme and so on it goes they say again after noon".split()


@pytest.fixture
def folder(tmp_path):
    """A task, and a store whose teacher says up of most texts with `calls`, and down of most others."""
    rng = random.Random(0)
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    texts = [Text(" ".join([*rng.choices(FILLERS, k=6), "calls" if i % 3 == 0 else "stock", str(i)]), str(i)) for i in range(300)]
    write_store(tmp_path / "labels.db", tmp_path / "task.toml", texts[:1])
    with LabelStore.create(tmp_path / "labels.db") as store:
        store.add_texts(texts)
        run = store.find_run(None)
        for i, text in enumerate(texts[1:], 1):
            says_up = (i % 3 == 0) != (rng.random() < 0.15)
            words = (-0.2, -1.8) if says_up else (-1.8, -0.2)
            store.add(run, [TeacherPath(text.id, 0, 0, 0, "r", words, 5, 7)])
    return tmp_path


def test_a_rule_is_proposed_accepted_and_votes(folder, capsys):
    places = [str(folder / name) for name in ("task.toml", "labels.db", "rules.json")]
    assert console(["labels", "propose", *places, "--refine", "off"]) == 0
    said = capsys.readouterr().out
    assert "up: calls" in said and said.endswith(f"wrote {places[2]}; accept rules with --accept NAME\n")
    assert load_task(places[0]).rules == []  # nothing votes that nobody accepted
    assert console(["labels", "propose", *places, "--accept", "up: calls"]) == 0
    assert capsys.readouterr().out == f"added 1 rule to {places[0]}: up: calls\n"
    report = combine(places[0], places[1], folder / "combined.jsonl", refine="off")
    assert [(source.name, round(source.coverage, 2)) for source in report.sources] == [("teacher", 1.0), ("up: calls", 0.33)]
    again = propose_rules(places[0], places[1], places[2], ProposeConfig(refine="off"))
    assert "up: calls" not in [row.rule.name for row in again.rules]  # it is there already


def test_rules_for_another_task_are_not_accepted(folder):
    propose_rules(folder / "task.toml", folder / "labels.db", folder / "rules.json", ProposeConfig(refine="off"))
    (folder / "task.toml").write_text(SMALL_TASK.replace("Up or down?", "Down or up?"))
    with pytest.raises(
        UserError, match="rules.json: was proposed for another task, or before this one was changed; propose again$"
    ):
        accept_rules(folder / "task.toml", folder / "rules.json", ["up: calls"])


def test_the_real_teacher_names_words_that_stand_in_the_texts(folder):
    record = propose_rules(
        folder / "task.toml", folder / "labels.db", folder / "rules.json", ProposeConfig(by="teacher", refine="off")
    )
    assert record.rules and {row.origin for row in record.rules} == {"teacher"}
    with LabelStore.read(folder / "labels.db") as store:
        texts = [text.text for text in store.texts().values()]
    assert all(any(row.rule.keywords[0] in text for text in texts) for row in record.rules)


def test_an_unknown_proposer_is_refused():
    with pytest.raises(UserError, match="^by is 'chance'; allowed: words, teacher, both$"):
        ProposeConfig(by="chance")
