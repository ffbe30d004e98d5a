import csv
import json

import pyarrow.parquet
import pytest

from potstill.contract.errors import FormatError
from potstill.contract.interchange.flat_labels import flat, write_csv, write_dataset, write_jsonl, write_parquet
from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import read_texts


def soft_label(**changes: object) -> SoftLabel:
    row = {
        "id": "a", "text": "t", "probs": {"up": 0.75, "down": 0.25}, "votes": {"up": 6, "down": 2}, "agreement": 0.75, "n_paths": 8,
        "entropy": 0.5, "label_mass": 0.9, "method": "mean", "teacher_digest": "d", "task_digest": "e",
    }  # fmt: skip
    return SoftLabel(**{**row, **changes})


ROWS = [soft_label(text='odd, "text"\r\nof \N{SNOWMAN}\u2028lines \u202e\u05d0'), soft_label(id="b", target="ACME", gold="down")]


def test_a_row_has_a_column_for_every_number_and_none_called_label():
    assert flat(ROWS[1]) == {
        "id": "b", "text": "t", "target": "ACME", "gold": "down", "majority": "up", "agreement": 0.75, "entropy": 0.5, "label_mass": 0.9,
        "n_paths": 8, "method": "mean", "probs.up": 0.75, "probs.down": 0.25, "votes.up": 6, "votes.down": 2,
    }  # fmt: skip


def test_the_tables_hold_the_same_rows(tmp_path):
    expected = [flat(row) for row in ROWS]
    write_jsonl(tmp_path / "t.jsonl", ROWS)
    assert [json.loads(line) for line in (tmp_path / "t.jsonl").read_bytes().splitlines()] == expected
    write_parquet(tmp_path / "t.parquet", ROWS)
    assert pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist() == expected
    write_csv(tmp_path / "t.csv", ROWS)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert cells == [{key: "" if value is None else str(value) for key, value in row.items()} for row in expected]


def test_a_dataset_holds_majority_and_gold_as_classes(tmp_path):
    write_dataset(tmp_path / "d", ROWS)
    features = json.loads((tmp_path / "d" / "dataset_info.json").read_text())["features"]
    assert features["majority"] == features["gold"] == {"names": ["up", "down"], "_type": "ClassLabel"}
    kinds = {name: feature.get("dtype") for name, feature in features.items()}
    assert [name for name, kind in kinds.items() if kind == "int64"] == ["n_paths", "votes.up", "votes.down"]
    assert [name for name, kind in kinds.items() if kind == "float64"] == [
        "agreement",
        "entropy",
        "label_mass",
        "probs.up",
        "probs.down",
    ]
    (rows,) = (pyarrow.ipc.open_stream(file.read_bytes()).read_all() for file in (tmp_path / "d").glob("*.arrow"))
    assert (rows["majority"].to_pylist(), rows["gold"].to_pylist()) == ([0, 0], [None, 1])


def test_what_the_teacher_said_is_not_taken_for_gold_when_a_table_is_read_as_texts(tmp_path):
    write_dataset(tmp_path / "d", ROWS)
    with pytest.raises(
        FormatError,
        match=r"has unknown columns: 'majority'.* dataset.select_columns\(\['id', 'text', 'target', 'gold'\]\)",
    ):
        read_texts(tmp_path / "d")
