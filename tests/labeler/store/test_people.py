"""The journal of a label store keeps every decision, repeats none, and disturbs nobody."""

import sqlite3
import subprocess
import sys

import pytest
from support.teachers.table_teacher import SETTINGS, path

from potstill.contract.errors import FormatError
from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.integrity import check_store
from potstill.labeler.store.people import HumanDecision, Journal, stored_decisions

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        run = store.begin_run(SETTINGS)
        store.add_texts([Text("text", "a")])
        store.add(run, [path()])
    return tmp_path / "labels.db"


def a_decision(entry="e", **changes):
    return HumanDecision(**{"entry": entry, "text_id": "a", "person": "ann", "mode": "random", "labels": "up"} | changes)


@pytest.mark.parametrize("labels", ["up", ["x", "y"], [], None])
def test_a_decision_comes_back_as_it_was_written(store, labels):
    given = a_decision(labels=labels, note="why\n'\"", skipped=labels is None, revealed=True, question="move")
    with Journal.open(store) as journal:
        journal.add([given])
        (found,) = journal.since()
    assert found.number == 1 and found.made_at
    changes = {"number": 0, "made_at": ""}
    assert type(found)(**{name: changes.get(name, getattr(found, name)) for name in found.__struct_fields__}) == given


def test_a_store_that_nobody_reviewed_has_no_decision_and_stays_as_it_was(store):
    before = store.read_bytes()
    with LabelStore.read(store) as opened:
        assert stored_decisions(opened) == []
    assert store.read_bytes() == before


def test_what_is_sent_twice_is_stored_once(store):
    with Journal.open(store) as journal:
        journal.add([a_decision()])
        journal.add([a_decision(labels="down"), a_decision("other")])
        assert [(row.entry, row.labels) for row in journal.since()] == [("e", "up"), ("other", "up")]


def test_paths_and_their_check_are_as_before_and_both_may_be_written_at_once(store):
    with LabelStore.create(store) as labelling, Journal.open(store) as one, Journal.open(store) as other:
        before = check_store(labelling).counts[0]
        one.add([a_decision("1")])
        labelling.add(labelling.runs()[0], [path(number=1)])
        other.add([a_decision("2")])
        assert [row.entry for row in one.since()] == ["1", "2"] == [row.entry for row in stored_decisions(labelling)]
        assert check_store(labelling).counts[0] == before
        assert len(list(labelling.paths(labelling.runs()[0]))) == 2


def test_a_reader_sees_only_what_is_new(store):
    with Journal.open(store) as one, Journal.open(store) as other:
        one.add([a_decision("1")])
        last = other.since()[-1].number
        one.add([a_decision("2")])
        assert [row.entry for row in other.since(last)] == ["2"]


WRITER = """
import sys
from pathlib import Path
from potstill.labeler.store.people import HumanDecision, Journal
with Journal.open(Path(sys.argv[1])) as journal:
    for n in range(50):
        journal.add([HumanDecision(entry=f"{sys.argv[2]}-{n}", text_id="a", person=sys.argv[2], mode="random", labels="up")])
"""


def test_three_processes_at_once_lose_nothing(store, repository):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(store), name], cwd=repository) for name in ("ann", "bob", "eve")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with Journal.open(store) as journal:
        assert len({row.entry for row in journal.since()}) == 150


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    with pytest.raises(FormatError, match="no such label store; make one with: potstill label"):
        Journal.open(tmp_path / "labels.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(FormatError, match="is not a label store of format 1"):
        Journal.open(tmp_path / "empty.db")
    assert (tmp_path / "empty.db").read_bytes() == b""
    (tmp_path / "other.db").write_bytes(b"no database" * 100)
    with pytest.raises(FormatError, match="is damaged or not a label store"):
        Journal.open(tmp_path / "other.db")


def test_a_damaged_row_is_named(store):
    with Journal.open(store) as journal:
        journal.add([a_decision()])
    with sqlite3.connect(store) as connection:
        connection.execute("update decisions set mode = 'guess'")
    connection.close()
    with Journal.open(store) as journal, pytest.raises(FormatError, match="decision 1: is damaged"):
        journal.since()
