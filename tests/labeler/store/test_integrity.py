"""Every kind of damage to a label store is found and named on one line, and a sound store has none."""

import sqlite3

import msgspec
import pytest

from potstill.contract.errors import FormatError
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.integrity import check_store


@pytest.fixture
def file(stored):
    """A sound store: two texts, four sampled paths."""
    store, _ = stored({i: [(0, (0.6, 0.3)), (1, (0.1, 0.8))] for i in ("a", "b")}, mode="cot", n_variants=2)
    store.close()
    return store.path


def checked(file, *changes):
    with sqlite3.connect(file) as connection:
        for change in changes:
            connection.execute(change)
    connection.close()
    with LabelStore.read(file) as store:
        return check_store(store)


def test_a_sound_store_has_no_fault_and_its_runs_are_counted(file):
    found = checked(file, "insert into too_long values (1, 'a', 9, 8)")
    assert found.faults == []
    assert found.counts == ["1 run, 2 texts", "run 1: mode cot, 4 paths of 2 texts, 1 text too long"]


AGAIN = "label again with --new-run"
RESTORE = "restore a copy of the store, or label into another folder"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("update paths set word_logprobs = '[-0.5]'", f"run 1: 4 of 4 paths do not have one log-probability for each of the run's 2 label words; {AGAIN}"),
        ("update paths set word_logprobs = '[-0.5,0.1]' where text_id = 'a'", f"run 1: 2 of 4 paths hold a log-probability that is above 0 or not finite; {AGAIN}"),
        ("update paths set word_logprobs = '[-0.5,null]' where path = 0", f"run 1: 2 of 4 paths hold a value that cannot be read; {AGAIN}"),
        ("update paths set word_logprobs = '[-0.5,-1' where path = 0", f"run 1: 2 of 4 paths hold a value that cannot be read; {AGAIN}"),
        ("update paths set seed = 'x' where path = 0", f"run 1: 2 of 4 paths hold a value that cannot be read; {AGAIN}"),
        ("update paths set variant = 2 where path = 1", f"run 1: 2 of 4 paths have a variant that the run lacks (it has 0 to 1); {AGAIN}"),
        ("update paths set seed = seed + 1 where text_id = 'b' and path = 1", f"run 1: 1 of 4 paths have a seed that does not follow from their text and number; {AGAIN}"),
        ("update paths set n_generated = -1", f"run 1: 4 of 4 paths hold a number below 0; {AGAIN}"),
        ("delete from texts where id = 'a'", f"2 rows of paths refer to missing texts; {RESTORE}"),
        ("insert into too_long values (7, 'a', 9, 8)", f"1 rows of too_long refer to missing runs; {RESTORE}"),
        ("update runs set settings = replace(settings, '\"mode\":\"cot\"', '\"mode\":\"direct\"')", f"run 1: its settings do not match its digest; {AGAIN}"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_rows_and_what_to_do(file, change, fault):
    assert checked(file, change).faults == [fault]


def test_settings_that_cannot_be_read_are_named(file):
    (fault,) = checked(file, "update runs set settings = '{'").faults
    assert fault.startswith("run 1: its settings cannot be read (")
    assert fault.endswith(RESTORE)


def test_several_faults_are_several_lines(file):
    assert len(checked(file, "update paths set seed = 1", "update paths set word_logprobs = '[]'").faults) == 2


def test_a_run_of_direct_paths_has_no_seeds_to_check(stored):
    store, _ = stored({"a": [(0, (0.6, 0.3))]}, mode="direct")
    store.close()
    assert checked(store.path, "update paths set seed = 0").faults == []


def test_settings_that_a_later_version_adds_are_no_fault(file):
    with LabelStore.read(file) as store:
        ((text, digest),) = store.query("select settings, digest from runs")
        assert "deterministic" not in msgspec.json.decode(text)  # defaults are left out, so an earlier version's digest stays
        assert store.runs()[0].settings.digest == digest


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_store_that_is_cut_short_is_one_line(file, kept, stored):
    with sqlite3.connect(file) as connection:
        connection.executemany("insert into texts values (?, ?, null, null)", [(f"t{i}", "text " * 50) for i in range(200)])
    connection.close()
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    try:
        with LabelStore.read(file) as store:
            (line,) = check_store(store).faults
    except FormatError as error:
        line = str(error)
    assert "damaged" in line and "\n" not in line


def test_a_store_with_scrambled_pages_is_one_line(file):
    with sqlite3.connect(file) as connection:
        connection.executemany("insert into texts values (?, ?, null, null)", [(f"t{i}", "text " * 50) for i in range(200)])
    connection.close()
    data = bytearray(file.read_bytes())
    data[4096 * 6 : 4096 * 6 + 200] = bytes(range(200))
    file.write_bytes(bytes(data))
    try:
        with LabelStore.read(file) as store:
            (line,) = check_store(store).faults
    except FormatError as error:
        line = str(error)
    assert "damaged" in line and "\n" not in line
