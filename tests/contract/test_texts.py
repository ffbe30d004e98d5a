import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.errors import FormatError
from potstill.contract.texts import Text, read_texts, text_id, texts_and_targets, write_texts


def written(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def parquet(tmp_path, columns):
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


ROWS = [Text("first", "a", "ACME", "up"), Text("second, with\na line", "b"), Text("drei \N{SNOWMAN}", "c", None, "down")]


def test_texts_and_targets_are_lists_of_one_length_and_without_any_target_there_is_no_list():
    assert texts_and_targets(ROWS) == ([row.text for row in ROWS], ["ACME", "", ""])
    assert texts_and_targets(ROWS[1:]) == ([row.text for row in ROWS[1:]], None)
    assert texts_and_targets([]) == ([], None)


def test_the_four_kinds_of_file_hold_the_same_texts(tmp_path):
    jsonl = written(tmp_path, "t.jsonl", write_texts(ROWS))
    cells = [(row.text, row.id, row.target or "", row.gold or "") for row in ROWS]
    quoted = [[f'"{cell}"' for cell in row] for row in cells]
    csv = written(tmp_path, "t.csv", "text,id,target,gold\r\n" + "".join(",".join(row) + "\r\n" for row in quoted))
    tsv = written(tmp_path, "t.tsv", "text\tid\ttarget\tgold\n" + "".join("\t".join(row) + "\n" for row in quoted))
    columns = {name: [getattr(row, name) for row in ROWS] for name in ("text", "id", "target", "gold")}
    for path in (jsonl, csv, tsv, parquet(tmp_path, columns)):
        assert read_texts(path).texts == ROWS, path


@given(st.lists(st.tuples(st.text(min_size=1), st.none() | st.text(min_size=1)), min_size=1, unique=True))
def test_texts_survive_being_written_and_read(tmp_path_factory, pairs):
    rows = [Text(text, str(i), target) for i, (text, target) in enumerate(pairs)]
    path = written(tmp_path_factory.mktemp("t"), "t.jsonl", write_texts(rows))
    usable = [row for row in rows if row.text.strip() and "\0" not in row.text]
    if usable:
        assert read_texts(path).texts == usable
    else:
        with pytest.raises(FormatError, match="has no usable text"):
            read_texts(path)


def test_a_missing_id_is_the_digest_of_text_and_target(tmp_path):
    path = written(tmp_path, "t.jsonl", '{"text": "a"}\n{"text": "a", "target": "b"}\n')
    ids = [text.id for text in read_texts(path).texts]
    assert ids == [text_id("a", None), text_id("a", "b")]
    # printf 'a\0' | sha256sum
    assert ids[0] == "ffe9aaeaa2a2d5048174df0b80599ef0197ec024c4b051bc9860cff58ef7f9f3"


def test_what_is_passed_over_is_counted_by_reason(tmp_path):
    rows = [{"text": "a"}, {"text": " \n"}, {"text": "a"}, {"text": "b\0c"}, {"text": ""}, {"text": "d"}]
    texts = read_texts(written(tmp_path, "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert [text.text for text in texts.texts] == ["a", "d"]
    assert texts.skipped == {"empty": 2, "duplicate": 1, "with a NUL character": 1}
    assert texts.skipped_line() == "skipped 4 of 6 rows: 2 empty, 1 duplicate, 1 with a NUL character"
    assert read_texts(written(tmp_path, "u.jsonl", '{"text": "a"}')).skipped_line() == ""


def test_an_empty_field_is_an_absent_one(tmp_path):
    path = written(tmp_path, "t.jsonl", '{"text": "a", "target": "", "gold": ""}\n{"text": "a"}\n')
    texts = read_texts(path, labels=["up"], target=False)
    assert texts.texts == [Text("a", text_id("a", None))] and texts.skipped == {"duplicate": 1}


def test_a_text_of_a_megabyte_is_read_whole(tmp_path):
    long = "word " * 200_000
    for name, data in (("t.jsonl", json.dumps({"text": long})), ("t.csv", f'text\n"{long}"\n')):
        assert read_texts(written(tmp_path, name, data)).texts[0].text == long


def test_a_byte_order_mark_is_dropped(tmp_path):
    for name, data in (("t.jsonl", b'\xef\xbb\xbf{"text": "a"}'), ("t.csv", b"\xef\xbb\xbftext\na\n")):
        assert read_texts(written(tmp_path, name, data)).texts[0].text == "a"


BROKEN = [
    ("t.txt", "a\n", "unknown kind '.txt'; allowed: .jsonl, .csv, .tsv, .parquet, .json, or a datasets folder"),
    ("t.jsonl", "", "has no usable text (no rows); each row needs a text"),
    ("t.jsonl", '{"text": " "}\n', "has no usable text (1 empty); each row needs a text"),
    ("t.jsonl", '{"text": "a"}\n\n{"text": 3}\n', "line 3: text: expected `str`, got `int`"),
    ("t.jsonl", '{"txt": "a"}\n', "line 1: object contains unknown field `txt`"),
    ("t.jsonl", '{"id": "a"}\n', "line 1: object missing required field `text`"),
    ("t.jsonl", '{"text": "a"\n', "line 1: not valid JSON: Input data was truncated"),
    ("t.jsonl", '["a"]\n', "line 1: expected `object`, got `array`"),
    ("t.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "line 2: byte 0xff is not UTF-8; save the file as UTF-8"),
    (
        "t.jsonl",
        '{"text": "a", "id": "1"}\n{"text": "b", "id": "1"}\n',
        "line 2: id '1' already belongs to another text; ids must be unique",
    ),
    ("t.jsonl", '{"text": "a", "gold": "flat"}\n', "line 1: gold: 'flat' is not a label; allowed: up, down"),
    ("t.csv", "", "header: has no column 'text'; found: nothing"),
    ("t.csv", "txt,id\na,1\n", "header: has no column 'text'; found: txt, id"),
    ("t.csv", "text,label\na,1\n", "header: unknown column 'label'; allowed: text, id, target, gold"),
    ("t.csv", "text,text\na,b\n", "header: repeats column 'text'; name each once"),
    ("t.csv", '"text"x,id\na,1\n', "header: not valid CSV: ',' expected after '\"'"),
    ("t.csv", "text,id\na\n", "line 2: does not have as many cells as the header (2)"),
    ("t.csv", "text,id\na,1,2\n", "line 2: does not have as many cells as the header (2)"),
    ("t.csv", 'text,id\n"a"b,1\n', "line 2: not valid CSV: ',' expected after '\"'"),
    ("t.csv", 'text,id\n"a\n', "line 2: not valid CSV: unexpected end of data"),
    ("t.csv", b"text\n\xe9\n", "line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    ("t.tsv", "text,id\na,1\n", "header: has no column 'text'; found: text,id"),
]


@pytest.mark.parametrize(("name", "data", "problem"), BROKEN)
def test_a_broken_file_is_refused_with_place_and_problem(tmp_path, name, data, problem):
    path = written(tmp_path, name, data)
    with pytest.raises(FormatError) as caught:
        read_texts(path, labels=["up", "down"])
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"text": ["a"], "label": ["b"]}, "header: unknown column 'label'; allowed: text, id, target, gold"),
        ({"body": ["a"]}, "header: has no column 'text'; found: body"),
        ({"text": ["a", None]}, "row 2: text: expected `str`, got `null`"),
        ({"text": ["a"], "id": [7]}, "row 1: id: expected `str`, got `int`"),
        ({"text": [b"a"]}, "row 1: text: expected `str`, got `bytes`"),
        ({"text": pyarrow.array([], pyarrow.string())}, "has no usable text (no rows); each row needs a text"),
    ],
)
def test_a_broken_table_is_refused_with_place_and_problem(tmp_path, columns, problem):
    path = parquet(tmp_path, columns)
    with pytest.raises(FormatError) as caught:
        read_texts(path)
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize("data", [b"", b"PAR1", b"nothing of the kind", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, data):
    path = written(tmp_path, "t.parquet", data)
    with pytest.raises(FormatError) as caught:
        read_texts(path)
    assert str(caught.value).startswith(f"{path}: not a readable Parquet file: ")


def test_a_parquet_file_that_is_cut_is_refused(tmp_path):
    path = parquet(tmp_path, {"text": ["a" * 1000, "b"]})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FormatError, match="not a readable Parquet file"):
        read_texts(path)


@pytest.mark.parametrize(
    ("row", "target", "problem"),
    [
        ('{"text": "a"}', True, "line 1: target: is missing; the task asks about a target (input.target)"),
        ('{"text": "a", "target": "b"}', False, "line 1: target: is given, but the task has none (input.target is false)"),
    ],
)
def test_a_target_is_there_when_the_task_asks_and_only_then(tmp_path, row, target, problem):
    path = written(tmp_path, "t.jsonl", row)
    with pytest.raises(FormatError) as caught:
        read_texts(path, target=target)
    assert str(caught.value) == f"{path}: {problem}"
    assert read_texts(path, target=not target).texts and read_texts(path).texts
