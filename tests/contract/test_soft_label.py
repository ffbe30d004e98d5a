import math

import msgspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.errors import FormatError
from potstill.contract.questions.soft_answers import read_soft_answers
from potstill.contract.soft_label import SoftLabel, entropy, read_soft_labels, write_soft_labels


def soft_label(**changes):
    row = {
        "id": "a", "text": "t", "probs": {"up": 0.75, "down": 0.25}, "votes": {"up": 6, "down": 2}, "agreement": 0.75, "n_paths": 8,
        "entropy": 0.5, "label_mass": 0.9, "method": "mean", "teacher_digest": "d", "task_digest": "e",
    }  # fmt: skip
    return SoftLabel(**{**row, **changes})


ROWS = [soft_label(), soft_label(id="b", target="ACME", gold="down", probs={"up": 0.0, "down": 1.0}, votes={"up": 0, "down": 8})]


@pytest.mark.parametrize("name", ["s.parquet", "s.jsonl"])
def test_soft_labels_survive_being_written_and_read(tmp_path, name):
    write_soft_labels(tmp_path / name, ROWS)
    assert read_soft_labels(tmp_path / name) == ROWS
    assert list(read_soft_labels(tmp_path / name, labels=["down", "up"])[0].probs) == ["up", "down"]


def test_the_file_says_its_format(tmp_path):
    write_soft_labels(tmp_path / "s.parquet", ROWS)
    assert pyarrow.parquet.read_schema(tmp_path / "s.parquet").metadata[b"format"] == b"potstill.soft_labels.1"


def test_a_later_format_is_refused(tmp_path):
    path = tmp_path / "s.parquet"
    write_soft_labels(path, ROWS)
    table = pyarrow.parquet.read_table(path).replace_schema_metadata({"format": "potstill.soft_labels.2"})
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(FormatError) as caught:
        read_soft_labels(path)
    assert str(caught.value) == f"{path}: format: is 'potstill.soft_labels.2'; this version reads 'potstill.soft_labels.1'"


def test_the_majority_is_the_most_voted_and_a_tie_goes_to_the_more_probable():
    assert soft_label().majority == "up"
    assert soft_label(votes={"up": 4, "down": 4}, probs={"up": 0.4, "down": 0.6}).majority == "down"
    assert soft_label(votes={"up": 1, "down": 2}, probs={"up": 0.9, "down": 0.1}).majority == "down"


@given(st.integers(min_value=1, max_value=50))
def test_the_entropy_of_an_even_distribution_is_the_log_of_its_size(n):
    assert entropy([1 / n] * n) == pytest.approx(math.log(n), abs=1e-12)


def test_the_entropy_of_certainty_is_zero():
    assert entropy([0.0, 1.0]) == 0.0


BROKEN = [
    ({"probs": {"up": 1.0}}, "line 1: probs: has labels ['up']; expected ['down', 'up']"),
    ({"probs": {"up": 0.5, "flat": 0.5}}, "line 1: probs: has labels ['flat', 'up']; expected ['down', 'up']"),
    ({"votes": {"up": 8}}, "line 1: votes: has labels ['up']; expected ['down', 'up']"),
    ({"probs": {"up": 1.5, "down": -0.5}}, "line 1: probs: are [1.5, -0.5]; each must be from 0 to 1"),
    ({"probs": {"up": 0.5, "down": 0.4}}, "line 1: probs: sum to 0.90000000; they must sum to 1 within 1e-06"),
    ({"votes": {"up": 8, "down": 1}}, "line 1: votes: add up to 9 of 8 paths; at most one vote per path"),
    ({"votes": {"up": 8, "down": -1}}, "line 1: votes: add up to 7 of 8 paths; at most one vote per path"),
    ({"agreement": 1.25}, "line 1: agreement: is 1.25; it must be from 0 to 1"),
    ({"gold": "flat"}, "line 1: gold: 'flat' is not a label; allowed: up, down"),
]


@pytest.mark.parametrize(("changes", "problem"), BROKEN)
def test_a_row_that_breaks_a_promise_is_refused(tmp_path, changes, problem):
    for name in ("s.jsonl", "s.parquet"):
        path = tmp_path / name
        write_soft_labels(path, [soft_label(**changes)])
        with pytest.raises(FormatError) as caught:
            read_soft_labels(path, labels=["up", "down"])
        assert str(caught.value) == f"{path}: {problem if name == 's.jsonl' else problem.replace('line', 'row')}"


def test_a_sum_within_the_tolerance_passes_and_one_beyond_does_not(tmp_path):
    write_soft_labels(tmp_path / "s.jsonl", [soft_label(probs={"up": 0.5, "down": 0.5 + 9e-7})])
    assert len(read_soft_labels(tmp_path / "s.jsonl")) == 1
    write_soft_labels(tmp_path / "s.jsonl", [soft_label(probs={"up": 0.5, "down": 0.5 + 2e-6})])
    with pytest.raises(FormatError, match="they must sum to 1"):
        read_soft_labels(tmp_path / "s.jsonl")


def test_a_probability_that_is_not_a_number_is_refused(tmp_path):
    row = msgspec.to_builtins(soft_label()) | {"probs": {"up": math.nan, "down": 0.25}}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "s.parquet")
    with pytest.raises(FormatError, match=r"row 1: probs: are \[nan, 0.25\]; each must be from 0 to 1"):
        read_soft_labels(tmp_path / "s.parquet")


def test_an_id_that_repeats_is_refused(tmp_path):
    write_soft_labels(tmp_path / "s.jsonl", [soft_label(), soft_label()])
    with pytest.raises(FormatError) as caught:
        read_soft_labels(tmp_path / "s.jsonl")
    assert str(caught.value) == f"{tmp_path / 's.jsonl'}: line 2: id: repeats 'a'; ids must be unique"


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("s.jsonl", b"", "has no soft label; run: potstill label"),
        ("s.jsonl", b"{}\n", "line 1: object missing required field `id`"),
        ("s.jsonl", b"{\n", "line 1: not valid JSON: Input data was truncated"),
    ],
)
def test_a_broken_file_is_refused_with_place_and_problem(tmp_path, name, data, problem):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read_soft_labels(path)
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("t.csv", b"text\na\n", "unknown kind '.csv'; soft labels are .parquet or .jsonl; make them of texts with: "),
        ("t.jsonl", b'{"id": "a", "text": "b"}\n', "holds texts (id, text), not soft labels; make them of texts with: "),
    ],
)
def test_texts_in_the_place_of_soft_labels_are_told_with_the_command_that_labels_them(tmp_path, name, data, problem):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read_soft_labels(tmp_path / name)
    make = f"potstill label TASK {tmp_path / name} OUT, which writes OUT/soft_labels.parquet"
    assert str(caught.value) == f"{tmp_path / name}: {problem}{make}"


def test_a_folder_in_the_place_of_soft_labels_is_told_with_those_in_it(tmp_path):
    with pytest.raises(FormatError, match=r"is a folder; name the soft labels in it, a \.parquet or \.jsonl file$"):
        read_soft_labels(tmp_path)
    (tmp_path / "soft_labels.parquet").touch()
    with pytest.raises(FormatError, match=r"is a folder; name the soft labels in it: .*/soft_labels\.parquet$"):
        read_soft_labels(tmp_path)


def test_soft_labels_of_several_questions_are_no_soft_labels_of_one_and_the_reverse(tmp_path):
    one, several = tmp_path / "one.jsonl", tmp_path / "several.jsonl"
    write_soft_labels(one, ROWS)
    several.write_text('{"id": "a", "text": "b", "answers": {}, "teacher_digest": "t", "task_digest": "d"}\n')
    with pytest.raises(FormatError, match="holds soft labels of several questions, and one is asked; name the task"):
        read_soft_labels(several)
    with pytest.raises(FormatError, match="holds soft labels of one question, and several are asked; name the task"):
        read_soft_answers(one, [])


def test_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(msgspec.json.encode(msgspec.to_builtins(soft_label()) | {"label": "up"}))
    with pytest.raises(FormatError) as caught:
        read_soft_labels(path)
    assert (
        str(caught.value)
        == f"{path}: line 1: unknown key 'label' (did you mean 'label_mass'?); allowed: {', '.join(SoftLabel.__struct_fields__)}"
    )


def test_byte_order_marks_and_a_suffix_in_capitals_are_no_obstacle(tmp_path):
    mark = b"\xef\xbb\xbf"
    lines = [mark + msgspec.json.encode(row) for row in ROWS]
    (tmp_path / "S.JSONL").write_bytes(b"\n".join(lines))
    assert read_soft_labels(tmp_path / "S.JSONL") == ROWS
    write_soft_labels(tmp_path / "s.Parquet", ROWS)
    assert read_soft_labels(tmp_path / "s.Parquet") == ROWS


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(msgspec.json.encode(soft_label()).replace(b'"t"', b'"\xff"'))
    with pytest.raises(FormatError, match="line 1: byte 0xff is not UTF-8"):
        read_soft_labels(path)


def test_a_kind_of_file_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(FormatError) as caught:
        write_soft_labels(tmp_path / "s.csv", ROWS)
    assert str(caught.value) == f"{tmp_path / 's.csv'}: unknown kind '.csv'; allowed: .parquet, .jsonl"
