"""Parquet files that are not what they should be: one line that says where, whatever was damaged."""

import random

import pyarrow as pa
import pyarrow.parquet
import pytest

from potstill.contract.errors import FormatError
from potstill.contract.files import arrow
from potstill.contract.soft_label import SoftLabel, read_soft_labels, write_soft_labels
from potstill.contract.texts import read_texts


def strings(values):
    """A column of strings with exactly these bytes; Arrow does not check that they are UTF-8."""
    return pa.array(values, pa.binary()).view(pa.string())


def write(path, columns, names):
    pa.parquet.write_table(pa.Table.from_arrays(columns, names=names), path)


def test_a_text_that_is_not_utf8_is_refused_with_its_row_and_column(tmp_path):
    path = tmp_path / "texts.parquet"
    write(path, [strings([b"a", b"b", b"c"]), strings([b"one", "zwölf".encode("latin-1"), b"\xff"])], ["id", "text"])
    for read in (arrow.read_parquet, read_texts):
        with pytest.raises(FormatError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: row 2: text: byte 0xf6 is not UTF-8; write the file again with its texts as UTF-8"


def test_soft_labels_with_a_label_that_is_not_utf8_are_refused_the_same_way(tmp_path):
    path = tmp_path / "soft.parquet"
    probs = pa.StructArray.from_arrays([pa.array([1.0])], names=["up"])
    write(path, [strings([b"\x80"]), probs], ["id", "probs"])
    with pytest.raises(FormatError, match=r"soft.parquet: row 1: id: byte 0x80 is not UTF-8; write the file again"):
        read_soft_labels(path)


def test_a_damaged_file_of_soft_labels_is_read_or_refused_in_one_line(tmp_path):
    rows = [
        SoftLabel(
            id=f"t{i}",
            text=f"text nümber {i}",
            probs={"up": 0.5, "down": 0.5},
            votes={"up": 1, "down": 1},
            agreement=0.5,
            n_paths=2,
            entropy=0.69,
            label_mass=0.9,
            method="mean",
            teacher_digest="a",
            task_digest="b",
        )
        for i in range(20)
    ]
    path = tmp_path / "soft.parquet"
    write_soft_labels(path, rows)
    table = pa.parquet.read_table(path)
    pa.parquet.write_table(table, path, compression="none", use_dictionary=False)  # so that flipped bytes reach the texts
    whole, chance, refused = path.read_bytes(), random.Random(7), []
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 2, 8])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            read_soft_labels(path)
        except FormatError as error:
            refused.append(str(error))
    assert len(refused) > 50 and any("is not UTF-8" in line for line in refused)
