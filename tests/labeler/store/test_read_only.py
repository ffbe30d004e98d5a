"""Reading a label store that may not be written: another user's, or one on a mount for reading only."""

import json
import shutil

import pytest
from support.processes import plain_user
from support.teachers.table_teacher import SETTINGS, path

from potstill.contract.texts import Text
from potstill.labeler.store.database import LabelStore

READ = """
import json, sys
from pathlib import Path
from potstill.contract.errors import UserError
from potstill.labeler.store.database import LabelStore
try:
    with LabelStore.read(Path(sys.argv[1])) as store:
        print(json.dumps([path.text_id for path in store.paths(store.find_run(None))]))
except UserError as error:
    print(json.dumps(str(error)))
"""
COMMANDS = """
import sys
from pathlib import Path
from potstill.workflows.labels import soft_labels
from potstill.contract.interchange.review_export import ReviewConfig
store, out = sys.argv[1:]
print(soft_labels.check(store).counts[0], len(soft_labels.derive(store, Path(out) / "soft.jsonl").rows))
print(soft_labels.summarize(store).n_paths)
soft_labels.export_for_review(store, Path(out) / "review.json", ReviewConfig(form="argilla"))
"""


def fill(store, texts):
    run = store.begin_run(SETTINGS)
    store.add_texts([Text(text=f"text {text}", id=text) for text in texts])
    store.add(run, [path(text) for text in texts])


def close(folder):
    """Take away the right to write in the folder and to its files, as on a mount for reading only."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


def read(folder):
    """What a user without the right to write reads: ids of texts, or the message."""
    code, out, error = plain_user(READ, folder / "labels.db")
    assert (code, error) == (0, "")
    return json.loads(out)


def test_a_store_on_a_mount_for_reading_is_checked_derived_compared_and_exported(tmp_path):
    place, out = tmp_path / "mount", tmp_path / "out"
    out.mkdir()
    with LabelStore.create(place / "labels.db") as store:
        fill(store, ["a", "b"])
    close(place)
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    assert plain_user(COMMANDS, place / "labels.db", out) == (0, "1 run, 2 texts 2\n2\n", "")
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    assert {"soft.jsonl", "review.json"} <= {file.name for file in out.iterdir()}


def test_who_may_only_read_sees_what_a_running_writer_has_stored(tmp_path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        fill(store, ["a", "b", "c"])
        assert (tmp_path / "labels.db-wal").stat().st_size > 0
        close(tmp_path)
        assert read(tmp_path) == ["a", "b", "c"]


def test_paths_that_a_crash_left_beside_the_store_are_not_passed_over_in_silence(tmp_path):
    place = tmp_path / "copy"
    place.mkdir()
    with LabelStore.create(tmp_path / "labels.db") as store:
        fill(store, ["a"])
        for name in ("labels.db", "labels.db-wal"):
            shutil.copy(tmp_path / name, place / name)
    close(place)
    assert read(place) == (
        f"{place / 'labels.db'}: its newest paths are still in labels.db-wal, which only a user who may write there can read; "
        "copy labels.db and labels.db-wal to a folder of your own"
    )


def test_a_store_alone_that_may_not_be_written_is_read_too(tmp_path):
    with LabelStore.create(tmp_path / "labels.db") as store:
        fill(store, ["a"])
    (tmp_path / "labels.db").chmod(0o444)
    assert read(tmp_path) == ["a"]


@pytest.mark.parametrize("folder", ["a folder", "100%", "what?#"])
def test_the_name_of_the_folder_is_no_parameter_of_the_connection(tmp_path, folder):
    with LabelStore.create(tmp_path / folder / "labels.db") as store:
        fill(store, ["a"])
    close(tmp_path / folder)
    assert read(tmp_path / folder) == ["a"]
