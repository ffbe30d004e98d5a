import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.errors import FormatError
from potstill.contract.texts import Text, read_rows, read_texts, text_id, texts_and_targets, write_texts


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


TWICE = "; inside a cell in quote marks, a quote mark is written twice"
BROKEN = [
    (
        "t.txt",
        "a\n",
        "unknown kind '.txt'; allowed: .jsonl, .jsonl.gz, .csv, .tsv, .xlsx, .parquet, .json, or a folder of such files or of datasets",
    ),
    ("t.jsonl", "", "has no usable text (no rows); each row needs a text"),
    ("t.jsonl", '{"text": " "}\n', "has no usable text (1 empty); each row needs a text"),
    ("t.jsonl", '{"text": "a"}\n\n{"text": 3}\n', "line 3: text: expected `str | null`, got `int`"),
    ("t.jsonl", '{"txt": "a"}\n', "line 1: unknown key 'txt' (did you mean 'text'?); allowed: text, id, target, gold"),
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
    ("t.csv", '"text"x,id\na,1\n', "header: not valid CSV: ',' expected after '\"'" + TWICE),
    ("t.csv", "text,id\na\n", "line 2: has 1 cell, the header 2; write an empty cell as nothing between two separators"),
    ("t.csv", "text,id\na,1,2\n", "line 2: has 3 cells, the header 2; put a text that holds a separator in quote marks"),
    ("t.csv", 'text,id\n"a"b,1\n', "line 2: not valid CSV: ',' expected after '\"'" + TWICE),
    ("t.csv", 'text,id\n"a\n', "line 2: not valid CSV: unexpected end of data"),
    ("t.csv", b"text\n\xe9\n", "line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    (
        "t.tsv",
        "text,id\na,1\n",
        "header: has no column 'text'; found: text,id; its cells are separated by commas, in a .tsv they must be by tabs",
    ),
    (
        "t.csv",
        "text;gold\na;b\n",
        "header: has no column 'text'; found: text;gold; its cells are separated by semicolons, in a .csv they must be by commas",
    ),
    (
        "t.csv",
        "text,gold\na,up\n\ufefftext,gold\nb,up\n",
        "line 3: repeats the header; remove the line, one header is for the whole file",
    ),
    (
        "t.tsv",
        'id\ttext\n1\ta\n2\t"Quiet, my foot\n3\tb\n4\tand they said: sorry"\n',
        "line 3: a quote mark opens a cell that would end on line 5, or belongs to the text; for the latter write the cell in quote marks and those inside it twice, or save the file as .jsonl",
    ),
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
        ({"text": ["a"], "id": [0.5]}, "row 1: id: expected `int | str | null`, got `float`"),
        ({"text": ["a"], "id": [True]}, "row 1: id: expected `int | str | null`, got `bool`"),
        ({"text": [b"a"]}, "row 1: text: expected `str | null`, got `bytes`"),
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
    assert str(caught.value).endswith("; it may be cut off or of another kind: write it again")


def test_a_parquet_file_that_is_cut_is_refused(tmp_path):
    path = parquet(tmp_path, {"text": ["a" * 1000, "b"]})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FormatError, match="not a readable Parquet file"):
        read_texts(path)


@pytest.mark.parametrize(
    ("row", "target", "problem"),
    [
        ('{"text": "a"}', True, "line 1: target: is missing; the task asks about a target (input.target): give each row one"),
        (
            '{"text": "a", "target": "b"}',
            False,
            "line 1: target: is given, but the task has none (input.target is false); rename or remove it, or change the task",
        ),
    ],
)
def test_a_target_is_there_when_the_task_asks_and_only_then(tmp_path, row, target, problem):
    path = written(tmp_path, "t.jsonl", row)
    with pytest.raises(FormatError) as caught:
        read_texts(path, target=target)
    assert str(caught.value) == f"{path}: {problem}"
    assert read_texts(path, target=not target).texts and read_texts(path).texts


@pytest.mark.parametrize("row", ['{"text": "", "target": ""}', '{"text": null}', '{"text": " ", "gold": "n/a"}'])
def test_an_empty_row_is_skipped_whatever_its_other_cells_hold(tmp_path, row):
    path = written(tmp_path, "t.jsonl", '{"text": "a", "target": "b"}\n' + row)
    assert read_texts(path, target=True, labels=["up"]).skipped == {"empty": 1}
    table = written(tmp_path, "t.csv", "text,target,gold\na,b,\n,,\n,,n/a\n")
    assert read_texts(table, target=True, labels=["up"]).skipped == {"empty": 2}


def test_numbers_as_ids_and_labels_are_read_as_text(tmp_path):
    expected = [Text("a", "101", gold="10"), Text("b", "102")]
    jsonl = written(tmp_path, "t.jsonl", '{"text": "a", "id": 101, "gold": 10}\n{"text": "b", "id": 102}\n')
    assert read_texts(jsonl, labels=["1", "10"]).texts == expected
    assert (
        read_texts(parquet(tmp_path, {"text": ["a", "b"], "id": [101, 102], "gold": [10, None]}), labels=["1", "10"]).texts
        == expected
    )
    nothing = written(tmp_path, "u.jsonl", '{"text": "a", "id": null, "target": null, "gold": null}')
    assert read_texts(nothing).texts == [Text("a", text_id("a", None))]


def test_the_suffix_may_be_in_capitals_and_a_byte_order_mark_where_files_were_joined(tmp_path):
    assert read_texts(written(tmp_path, "T.CSV", "text\na\n")).texts[0].text == "a"
    joined = b'\xef\xbb\xbf{"text": "a"}\n\xef\xbb\xbf{"text": "b"}\n'
    assert [text.text for text in read_texts(written(tmp_path, "T.JSONL", joined)).texts] == ["a", "b"]


@pytest.mark.parametrize(
    ("written_as", "read_as"),
    [
        ("half \\ud83d", "half \ufffd"),
        ("\\uDE00 other half", "\ufffd other half"),
        ("two \\ud83d\\ud83d", "two \ufffd\ufffd"),
        ("whole \\ud83d\\ude00", "whole \U0001f600"),
        ("no escape \\\\ud83d \\ud83d", "no escape \\ud83d \ufffd"),
    ],
)
def test_half_a_surrogate_pair_is_one_unreadable_character_and_no_reason_to_refuse_the_file(tmp_path, written_as, read_as):
    path = written(tmp_path, "t.jsonl", '{"text": "first"}\n{"text": "' + written_as + '"}\n')
    assert [text.text for text in read_texts(path).texts] == ["first", read_as]


def test_a_quote_mark_in_a_tsv_is_a_character_unless_it_encloses_the_cell(tmp_path):
    rows = ['"Best" they said', 'he said "no"', '"all of it"', '"a ""b"""', '"', '"open', '""']
    table = "id\ttext\n" + "".join(f"{n}\t{row}\n" for n, row in enumerate(rows[:6]))
    found = [text.text for text in read_texts(written(tmp_path, "t.tsv", table)).texts]
    assert found == ['"Best" they said', 'he said "no"', "all of it", 'a "b"', '"', '"open']


def test_tsv_equals_csv_where_a_spreadsheet_wrote_both(tmp_path):
    cells = [("a\tb", "1"), ('say ""x""', "2"), ("two\r\nlines", "3"), ("", "4"), ("end", "5")]
    for end in ("\n", "\r\n", ""):
        tsv = "text\tid\n" + "".join(f'"{text}"\t"{name}"{end or chr(10)}' for text, name in cells)
        csv = "text,id\n" + "".join(f'"{text}","{name}"\n' for text, name in cells)
        found = read_texts(written(tmp_path, "t.tsv", tsv if end else tsv[:-1])).texts
        assert found == read_texts(written(tmp_path, "t.csv", csv)).texts and len(found) == 4


CROWD = [
    ("kettle", "up"),
    ("kettle", "down"),
    ("kettle", "down"),
    ("lid", "up"),
    ("lid", "up"),
    ("lid", "down"),
    ("volt", "up"),
    ("tie", "up"),
    ("tie", "down"),
]


def crowd(tmp_path, kind):
    """The same labels of several people in each kind of file."""
    columns = {"text": [text for text, _ in CROWD], "gold": [gold for _, gold in CROWD]}
    match kind:
        case "csv":
            return written(tmp_path, "c.csv", "text,gold\n" + "".join(f"{text},{gold}\n" for text, gold in CROWD))
        case "jsonl":
            return written(tmp_path, "c.jsonl", "".join(json.dumps({"text": text, "gold": gold}) + "\n" for text, gold in CROWD))
        case "own ids":
            rows = [{"text": text, "gold": gold, "id": n} for n, (text, gold) in enumerate(CROWD)]
            return written(tmp_path, "i.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        case "parquet":
            return parquet(tmp_path, columns)
        case "label studio":
            results = [
                {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [gold]}} for _, gold in CROWD
            ]
            tasks = [
                {"id": n, "data": {"text": text}, "annotations": [{"id": n, "result": [result], "was_cancelled": False}]}
                for n, ((text, _), result) in enumerate(zip(CROWD, results, strict=True))
            ]
            return written(tmp_path, "l.json", json.dumps(tasks))
        case "argilla":
            rows = [
                {
                    "id": str(n),
                    "fields": {"text": text},
                    "status": "completed",
                    "responses": {"label": [{"value": gold, "status": "submitted"}]},
                }
                for n, (text, gold) in enumerate(CROWD)
            ]
            return written(tmp_path, "a.json", json.dumps(rows))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "own ids", "parquet", "label studio", "argilla"])
def test_of_several_peoples_labels_of_a_text_the_most_chosen_is_its_gold_label(tmp_path, kind):
    read = read_texts(crowd(tmp_path, kind), labels=["up", "down"], gold=True)
    assert [(text.text, text.gold) for text in read.texts] == [("kettle", "down"), ("lid", "up"), ("volt", "up")]
    told = "skipped 1 of 9 rows: 1 tied between annotators; 5 of 9 rows are further labels of a text; "
    assert read.skipped_line() == told + "of 3 texts, 2 with annotators who disagreed (the label of most counts)"


def test_without_gold_asked_for_every_id_keeps_its_row_and_gets_the_labels_of_all(tmp_path):
    texts = read_texts(crowd(tmp_path, "own ids")).texts
    assert [text.gold for text in texts] == ["down"] * 3 + ["up"] * 3 + ["up", None, None]
    read = read_texts(crowd(tmp_path, "csv"))
    assert [(text.text, text.gold) for text in read.texts] == [("kettle", "down"), ("lid", "up"), ("volt", "up"), ("tie", None)]
    assert "1 with as many annotators for one label as for another (no label counts)" in read.skipped_line()


def test_a_label_is_not_lost_because_an_earlier_row_has_none(tmp_path):
    path = written(tmp_path, "t.csv", "text,gold\na,\na,up\nb,down\nb,\n")
    assert [(text.text, text.gold) for text in read_texts(path, gold=True).texts] == [("a", "up"), ("b", "down")]


def test_each_of_several_labels_must_be_one_of_the_task(tmp_path):
    path = written(tmp_path, "t.csv", "text,gold\na,up\na,up\na,flat\n")
    with pytest.raises(FormatError, match="line 4: gold: 'flat' is not a label; allowed: up, down"):
        read_texts(path, labels=["up", "down"])


def test_rows_to_answer_are_all_there_in_order_with_the_reason_of_those_that_are_empty(tmp_path):
    path = written(tmp_path, "t.csv", "text,id,gold\nb,1,up\n,2,\nb,1,down\na\0,3,\n")
    rows = read_rows(path)
    assert [(text.text, text.id, reason) for text, reason in rows] == [
        ("b", "1", ""),
        ("", "2", "empty"),
        ("b", "1", ""),
        ("a\0", "3", ""),
    ]
    with pytest.raises(FormatError, match="line 3: target: is missing"):
        read_rows(written(tmp_path, "u.csv", "text,target\n,\na,\n"), target=True)
    with pytest.raises(FormatError, match="id '1' already belongs to another text"):
        read_rows(written(tmp_path, "v.csv", "text,id\na,1\nb,1\n"))


def test_a_folder_of_files_is_read_in_the_order_of_their_names(tmp_path):
    (tmp_path / "d" / "2026").mkdir(parents=True)
    written(tmp_path / "d", "b.jsonl.gz", gzip.compress(write_texts(ROWS[1:2])))
    written(tmp_path / "d", "c.csv", "text,id,gold\n" + f"{ROWS[2].text},c,down\n")
    written(tmp_path / "d" / "2026", "a.jsonl", write_texts(ROWS[:1]))
    written(tmp_path / "d", "_notes.jsonl", "not json")
    written(tmp_path / "d", "readme.txt", "not texts")
    assert read_texts(tmp_path / "d").texts == ROWS
    written(tmp_path / "d", "d.jsonl", '{"text": 3}\n')
    with pytest.raises(FormatError, match=r"d\.jsonl: line 1: "):
        read_texts(tmp_path / "d")


@pytest.mark.parametrize("data", [b"plain", gzip.compress(b'{"text": "one"}\n')[:-9]])
def test_a_damaged_gzip_file_is_one_error(tmp_path, data):
    path = written(tmp_path, "t.jsonl.gz", data)
    with pytest.raises(FormatError, match=r"t\.jsonl\.gz: cannot be read as gzip: "):
        read_texts(path)
