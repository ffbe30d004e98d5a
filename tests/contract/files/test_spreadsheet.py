"""Spreadsheets as texts and as labels: what is in the cells, and nothing that runs, grows or hides."""

import csv
import datetime
import io
import json
import time
import zipfile

import pytest

from potstill.contract.errors import FormatError, MissingExtraError
from potstill.contract.files import spreadsheet
from potstill.contract.interchange.flat_labels import flat, write_csv, write_xlsx
from potstill.contract.interchange.review_export import ReviewConfig, write_review
from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import Text, read_rows, read_texts

openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed; it comes with the extra 'sheets'")

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def workbook(path, rows, change=lambda book: None):
    """A workbook as another program writes it."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book)
    book.save(path)
    return path


def with_part(path, name, content):
    """The workbook with one part exchanged or added."""
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, data in {**parts, name: content}.items():
            archive.writestr(part, data)
    return path


def sheet_xml(rows):
    return f'<worksheet xmlns="{SHEET}"><dimension ref="A1:XFD1048576"/><sheetData>{rows}</sheetData></worksheet>'


ROWS = [Text("first", "a", "ACME", "up"), Text("=1+1, with\na line", "b"), Text("drei \N{SNOWMAN}", "c", None, "down")]


def test_a_sheet_holds_the_same_texts_as_a_csv_file(tmp_path):
    cells = [["text", "id", "target", "gold"], *([row.text, row.id, row.target, row.gold] for row in ROWS)]
    data, n_cut = spreadsheet.encode(cells[0], cells[1:])
    (tmp_path / "t.xlsx").write_bytes(data)
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(cells)
    assert read_texts(tmp_path / "t.xlsx").texts == read_texts(tmp_path / "t.csv").texts == ROWS
    assert n_cut == 0


def test_cells_of_all_kinds_are_read_as_what_they_show(tmp_path):
    day = datetime.datetime(2024, 5, 6, 7, 8)
    rows = [
        ["text", "id", "gold"],
        [12, 7.0, None],
        [day, "x", "up"],
        [True, 3, 4],
        [1.5, None, 5.0],
        [None] * 3,
        ["end", 9, "down"],
    ]
    read = read_texts(workbook(tmp_path / "t.xlsx", rows))
    assert [(text.text, text.gold) for text in read.texts] == [
        ("12", None), ("2024-05-06 07:08:00", "up"), ("True", "4"), ("1.5", "5"), ("end", "down"),
    ]  # fmt: skip
    assert [text.id for text in read.texts][:3] == ["7", "x", "3"]


def test_gold_of_several_questions_stands_in_columns(tmp_path):
    rows = [["text", "gold.move", "gold.asks", "gold.topics"], ["a", "up", True, "news;chart"], ["b", "down", None, None]]
    found = read_texts(workbook(tmp_path / "t.xlsx", rows)).texts
    assert [json.loads(text.gold) for text in found] == [{"asks": True, "move": "up", "topics": "news;chart"}, {"move": "down"}]


def test_a_formula_is_never_evaluated_and_its_saved_value_counts(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["text"], ["plain"], ['=HYPERLINK("http://example.org", "click")']])
    assert [reason for _, reason in read_rows(path)] == [""]  # nothing was saved for it, so the row is blank
    cells = '<row r="1"><c r="A1" t="inlineStr"><is><t>text</t></is></c></row><row r="2"><c r="A2" t="str"><f>1+1</f><v>two</v></c></row>'
    with_part(path, "xl/worksheets/sheet1.xml", sheet_xml(cells))
    assert [text.text for text in read_texts(path).texts] == ["two"]


def test_what_is_written_is_text_whatever_it_begins_with(tmp_path):
    odd = ["=cmd|' /C calc'!A0", "+1", "-2", "@SUM(A1)", "\t=1", "<b>&amp;</b>", "a\x00b\x1bc", "\ud83d"]
    data, _ = spreadsheet.encode(["text"], [[text] for text in odd])
    sheet = openpyxl.load_workbook(io.BytesIO(data)).active
    cells = [row[0] for row in sheet.iter_rows(min_row=2)]
    assert [cell.data_type for cell in cells] == ["s"] * len(odd)
    assert [bool(cell.quotePrefix) for cell in cells] == [True] * 5 + [False] * 3
    assert [cell.value for cell in cells] == [*odd[:6], "a\ufffdb\ufffdc", "?"]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")


def a_label(text, **changes):
    values = {
        "id": text[:9], "text": text, "probs": {"up": 0.75, "down": 0.25}, "votes": {"up": 3, "down": 1}, "agreement": 0.75, "n_paths": 4,
        "entropy": 0.5, "label_mass": 0.9, "method": "votes", "teacher_digest": "t" * 64, "task_digest": "d" * 64,
    }  # fmt: skip
    return SoftLabel(**values | changes)


def test_labels_in_a_sheet_are_those_of_the_csv_table(tmp_path):
    rows = [a_label("=first"), a_label("second", gold="up", target="ACME")]
    assert write_xlsx(tmp_path / "t.xlsx", rows) == 0
    write_csv(tmp_path / "t.csv", rows)
    header, *cells = [[*row] for row in openpyxl.load_workbook(tmp_path / "t.xlsx").active.iter_rows(values_only=True)]
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert header == list(flat(rows[0])) == list(table[0])
    assert [["" if cell is None else str(cell) for cell in row] for row in cells] == [list(row.values()) for row in table]


def test_a_text_longer_than_a_cell_is_cut_and_counted(tmp_path):
    report = write_review(tmp_path / "t.xlsx", [a_label("x" * 40_000), a_label("b")], None, "t", ReviewConfig(form="xlsx", by="id"))
    assert report.as_text().splitlines()[1] == "cut 1 texts at 32767 characters, the most that a cell can hold"
    longest = max(len(row[1]) for row in openpyxl.load_workbook(tmp_path / "t.xlsx").active.iter_rows(min_row=2, values_only=True))
    assert longest == 32767


def test_a_file_that_unpacks_to_too_much_is_refused_with_one_line_and_at_once(tmp_path):
    path = workbook(tmp_path / "bomb.xlsx", [["text"], ["a"]])
    with_part(path, "xl/sharedStrings.xml", b"<sst>" + b" " * (spreadsheet.MAX_BYTES + 1))
    assert path.stat().st_size < 2**20
    began = time.monotonic()
    with pytest.raises(FormatError) as caught:
        read_texts(path)
    assert (
        str(caught.value) == f"{path}: xl/sharedStrings.xml: unpacks to more than 256 MiB, which is allowed; save the sheet as .csv"
    )
    assert time.monotonic() - began < 10


def test_an_archive_of_too_many_parts_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(spreadsheet, "MAX_PARTS", 5)
    with pytest.raises(FormatError, match=r"has \d+ parts; at most 5 are allowed, save it as .csv"):
        read_texts(workbook(tmp_path / "t.xlsx", [["text"], ["a"]]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_of_its_own_are_refused_before_anything_is_parsed(tmp_path, encoding):
    laughs = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>'
    path = workbook(tmp_path / "t.xlsx", [["text"], ["a"]])
    with_part(path, "xl/worksheets/sheet1.xml", (laughs + sheet_xml("<row/>")).encode(encoding))
    with pytest.raises(FormatError, match="xl/worksheets/sheet1.xml: declares a document type, which no spreadsheet has"):
        read_texts(path)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ('<row r="1"><c r="A1" t="inlineStr"><is><t>text</t></is></c></row><row r="999999999999"><c r="A999999999999"><v>1</v></c></row>', "has row 1048577"),
        ('<row r="1"><c r="ZZZ1"><v>1</v></c></row>', "has 18278 cells in row 1"),
    ],
)  # fmt: skip
def test_a_sheet_that_claims_to_be_endless_is_refused(tmp_path, rows, found):
    path = with_part(workbook(tmp_path / "t.xlsx", [["text"]]), "xl/worksheets/sheet1.xml", sheet_xml(rows))
    with pytest.raises(FormatError, match=f"{found}; at most 1048576 rows of 1000 cells are allowed"):
        read_texts(path)


def damaged(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable .xlsx file: File is not a zip file"),
        (b"text\nhello\n", "not a readable .xlsx file: File is not a zip file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is encrypted, or an old .xls; save it as .xlsx without a password"),
    ],
)
def test_other_files_named_so_are_refused(tmp_path, content, message):
    path = tmp_path / "t.xlsx"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_texts(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_damaged_file_is_an_error_of_the_file_wherever_the_damage_is(tmp_path):
    good = workbook(tmp_path / "good.xlsx", [["text"], *([f"text {i}"] for i in range(30))]).read_bytes()
    path, n_refused = tmp_path / "t.xlsx", 0
    for at in range(0, len(good), 41):
        path.write_bytes(good)
        try:
            read_texts(damaged(path, at))
        except FormatError:
            n_refused += 1
    assert n_refused > 50


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["words"], ["a"]], "header: has no column 'text'; found: words"),
        ([["text", "mood"], ["a", "b"]], "header: unknown column 'mood'; allowed: text, id, target, gold"),
        ([["text"], ["a", "b"]], "row 2: has more cells than the header (1); name every column"),
        ([["text", "gold"], ["a", "sideways"]], "row 2: gold: 'sideways' is not a label; allowed: up, down"),
        ([], "header: has no column 'text'; found: nothing"),
    ],
)
def test_a_fault_is_named_with_its_row(tmp_path, rows, message):
    path = workbook(tmp_path / "t.xlsx", rows)
    with pytest.raises(FormatError) as caught:
        read_texts(path, labels=["up", "down"])
    assert str(caught.value) == f"{path}: {message}"


def test_only_the_first_sheet_is_read(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["text"], ["a"]], lambda book: book.create_sheet("notes").append(["text"]))
    assert len(read_texts(path).texts) == 1


def test_without_the_library_the_message_names_the_extra(tmp_path, monkeypatch):
    path = workbook(tmp_path / "t.xlsx", [["text"], ["a"]])
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(
        MissingExtraError, match=r"the package 'openpyxl' is not installed; install it with: pip install 'potstill\[sheets\]'"
    ):
        read_texts(path)
