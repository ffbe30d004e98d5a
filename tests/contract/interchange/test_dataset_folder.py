"""The golden folder was written by datasets 5.2.0: `Dataset.from_dict(..., features=...).save_to_disk(...)`, pyarrow 26.0.1."""

import base64
import json
import zlib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.errors import FormatError, UserError
from potstill.contract.interchange import dataset_folder
from potstill.contract.texts import Text, read_texts, text_id

STRING, CLASSES = {"dtype": "string", "_type": "Value"}, {"names": ["up", "down"], "_type": "ClassLabel"}
FEATURES = {"id": STRING, "text": STRING, "label": CLASSES}
INFO = {"citation": "", "description": "", "features": FEATURES, "homepage": "", "license": ""}
STATE = {
    "_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_fingerprint": "0f4f0e5123c5f8c4", "_format_columns": None,
    "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None,
}  # fmt: skip
ARROW = zlib.decompress(base64.b85decode(
    "c-oaxOHRWu5S=zjiP{KdQK2j&uUK$^iWL%D7OdDHgxtnyBZZ`D92Hc06BgWn3$Wk-9DpNmi*&}Fgpz^;Pa4nnjqS0ks;b^P06q}<a0oqcz(otu"
    "v75MutIhFGV`CbH;x4X~bJ2d~+zZM|Bw3t`({LqXC3U$_g>jO|s7OD|6<VUuizJ(hlTh5&p(~k|N~|%Y)xG{lc`C;$HT9XiGy7eOa!$ojzRbkU"
    "F6%s%MR8#WYXl7N%(HSj#qP13D6r6fL^<O-J>#tK)?J!O$T5P0V)o@(xNu-*K_epW$Cl?1FWBLcrt6XYjx|0Ek=H{uP1Wbw@AJASNkqQg#E@RO"
    "_#i{}Jvic*^h`IfY}4ZsYV^_fnm2ud?H{n<3oiT)zolzl(5eesb;qm+tVgZ-(GPvB*16yhKJfqSa!!sX-)eh&hCEYxnd{j?sXcBz*Baz+045M_"
    "J^"
))  # fmt: skip
TEXTS = [Text("one", "a", None, "up"), Text("two", "b", None, "down"), Text("three", "c")]  # -1 is no label


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    folder = tmp_path / "golden"
    folder.mkdir()
    (folder / "data-00000-of-00001.arrow").write_bytes(ARROW)
    (folder / "state.json").write_text(json.dumps(STATE))
    (folder / "dataset_info.json").write_text(json.dumps(INFO))
    return folder


def hub(folder: Path, name: str, columns: dict, features: dict | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), folder / name)
    return folder


def saved(folder: Path, columns: dict, features: dict) -> Path:
    dataset_folder.write(folder, columns, features)
    return folder


def test_a_folder_that_datasets_saved_is_read_with_classes_by_name(golden):
    assert read_texts(golden, labels=["up", "down"]).texts == TEXTS


def test_what_is_written_differs_from_what_datasets_writes_in_the_fingerprint_only(golden, tmp_path):
    columns = {"id": ["a", "b", "c"], "text": ["one", "two", "three"], "label": [0, 1, -1]}
    folder = saved(tmp_path / "ours", columns, FEATURES)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in golden.iterdir())
    assert json.loads((folder / "dataset_info.json").read_text()) == INFO
    assert {**json.loads((folder / "state.json").read_text()), "_fingerprint": STATE["_fingerprint"]} == STATE
    ours, theirs = (pyarrow.ipc.open_stream((path / dataset_folder.ROWS_FILE).read_bytes()).read_all() for path in (folder, golden))
    assert ours.equals(theirs, check_metadata=False)
    assert json.loads(ours.schema.metadata[b"huggingface"]) == json.loads(theirs.schema.metadata[b"huggingface"])


def test_the_library_itself_loads_what_is_written(tmp_path):
    datasets = pytest.importorskip(
        "datasets",
        reason="the datasets library is not installed; its releases need other versions of fsspec and huggingface-hub than the pins",
    )
    folder = saved(tmp_path / "d", {"text": ["one", "two"], "gold": [1, None]}, {"text": STRING, "gold": CLASSES})
    loaded = datasets.load_from_disk(str(folder))
    assert loaded.to_dict() == {"text": ["one", "two"], "gold": [1, None]}
    assert loaded.features["gold"].names == ["up", "down"]
    loaded.save_to_disk(str(tmp_path / "e"))
    assert [text.gold for text in read_texts(tmp_path / "e").texts] == ["down", None]


ODD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(ODD, st.none() | ODD, st.none() | st.sampled_from([0, 1])), min_size=1, unique_by=lambda row: row[:2]))
def test_texts_survive_being_written_and_read(tmp_path_factory, triples):
    texts, targets, gold = zip(*triples, strict=True)
    columns = {"id": [str(i) for i in range(len(triples))], "text": list(texts), "target": list(targets), "gold": list(gold)}
    features = {"id": STRING, "text": STRING, "target": STRING, "gold": CLASSES}
    read = read_texts(saved(tmp_path_factory.mktemp("t") / "d", columns, features)).texts
    names = [None if label is None else CLASSES["names"][label] for label in gold]
    assert read == [Text(*row) for row in zip(texts, columns["id"], targets, names, strict=True)]


def test_several_shards_are_read_in_the_order_of_the_state(golden):
    (golden / "b.arrow").write_bytes(pyarrow_stream({"id": ["z"], "text": ["last"], "label": [0]}))
    files = [{"filename": "b.arrow"}, {"filename": "data-00000-of-00001.arrow"}]
    (golden / "state.json").write_text(json.dumps(STATE | {"_data_files": files}))
    assert [text.id for text in read_texts(golden).texts] == ["z", "a", "b", "c"]


def pyarrow_stream(columns: dict) -> bytes:
    table, sink = pyarrow.table(columns), pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_a_folder_of_parquet_files_is_read_in_the_order_of_their_names(tmp_path):
    hub(tmp_path / "h", "train-00001-of-00002.parquet", {"text": ["two"], "label": [0]}, {"text": STRING, "label": CLASSES})
    folder = hub(
        tmp_path / "h", "train-00000-of-00002.parquet", {"text": ["one"], "label": [1]}, {"text": STRING, "label": CLASSES}
    )
    assert read_texts(folder).texts == [
        Text("one", text_id("one", None), None, "down"),
        Text("two", text_id("two", None), None, "up"),
    ]
    one = read_texts(folder / "train-00001-of-00002.parquet").texts
    assert [text.gold for text in one] == ["up"]


def test_a_column_label_of_names_is_gold_where_no_column_is_called_so(tmp_path):
    folder = hub(tmp_path / "h", "a.parquet", {"text": ["one", "two"], "label": ["up", None]})
    assert [text.gold for text in read_texts(folder).texts] == ["up", None]


def both_splits(folder: Path) -> Path:
    hub(folder, "train-00000-of-00001.parquet", {"text": ["one"]})
    return hub(folder, "test.parquet", {"text": ["two"]})


def a_dict(folder: Path) -> Path:
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "state.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    return folder


def a_clone(folder: Path) -> Path:
    folder.mkdir()
    hub(folder / "data", "train-00000-of-00001.parquet", {"text": ["one"]})
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


CAST = "run: dataset.cast_column('label', ClassLabel(names=[...]))"
BROKEN = [
    (empty, "d: is a folder without texts; allowed: a folder with state.json, *.parquet, or files of lines (.jsonl, .jsonl.gz, .csv)"),
    (a_clone, "d: is a folder without texts; name a folder with Parquet files: d/data"),
    (a_dict, "d: has several splits; name the folder of one: d/train"),
    (both_splits, "d: has several splits (test, train); name one file, or move the files of one split to a folder"),
    (
        lambda path: hub(path, "a.parquet", {"text": ["one"], "url": ["u"], "label": ["up"], "stars": [3]}),
        "d/a.parquet: has unknown columns: 'url', 'stars'; drop them: dataset.select_columns(['text', 'label'])",
    ),
    (
        lambda path: hub(path, "a.parquet", {"text": ["one"], "gold": ["up"], "label": ["up"]}),
        "d/a.parquet: has unknown columns: 'label'; drop them: dataset.select_columns(['text', 'gold'])",
    ),
    (
        lambda path: hub(path, "a.parquet", {"sentence": ["one"], "label": ["up"]}),
        "d/a.parquet: has no column 'text'; found: sentence, label; run: dataset.rename_column(..., 'text')",
    ),
    (
        lambda path: hub(path, "a.parquet", {"text": ["one"], "label": [1]}),
        f"d/a.parquet: row 1: label: is 1, but the features name no classes; {CAST}",
    ),
    (
        lambda path: hub(path, "a.parquet", {"text": ["one"], "label": [2]}, {"text": STRING, "label": CLASSES}),
        "d/a.parquet: row 1: label: is 2; the features name 2 classes, from 0 to 1, and -1 is a missing label",
    ),
    (lambda path: hub(path, "a.parquet", {"text": ["one"], "label": [0.5]}), "d/a.parquet: row 1: gold: expected `int | str | object | null`, got `float`"),
    (lambda path: hub(path, "a.parquet", {"text": [3]}), "d/a.parquet: row 1: text: expected `str | null`, got `int`"),
    (lambda path: hub(path, "a.parquet", {"text": ["a"], "gold": ["flat"]}), "d/a.parquet: row 1: gold: 'flat' is not a label; allowed: up, down"),
    (lambda path: hub(path, "a.parquet", {"text": [" "]}), "d: has no usable text (1 empty); each row needs a text"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "problem"), BROKEN)
def test_a_folder_that_cannot_be_read_is_refused_with_what_to_do(tmp_path, monkeypatch, make, problem):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError) as caught:
        read_texts(make(Path("d")), labels=["up", "down"])
    assert str(caught.value) == problem


OLD = "was saved by datasets 1 with an index of rows; load and save it again with a newer version"


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("state.json", b"{}", "/state.json: object missing required field `_data_files`"),
        ("state.json", b"{", "/state.json: not valid JSON: Input data was truncated"),
        ("state.json", b'{"_data_files": [{"filename": "../x"}]}', "/state.json: _data_files: '../x' is not a file of this folder"),
        ("state.json", b'{"_data_files": [{"filename": "x.arrow"}]}', "/x.arrow: no such file; check the path"),
        ("state.json", b'{"_data_files": [], "_indices_data_files": [{"filename": "i"}]}', f": {OLD}"),
        ("dataset_info.json", None, "/dataset_info.json: no such file; check the path"),
        ("dataset_info.json", b'{"features": []}', "/dataset_info.json: features: expected `object | null`, got `array`"),
    ],
)
def test_a_damaged_folder_is_refused_with_place_and_problem(golden, name, data, problem):
    if data is None:
        (golden / name).unlink()
    else:
        (golden / name).write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read_texts(golden)
    assert str(caught.value) == f"{golden}{problem}"


@pytest.mark.parametrize("size", [0, 4, 100, 500])
def test_a_file_of_rows_that_is_cut_is_refused(golden, size):
    (golden / dataset_folder.ROWS_FILE).write_bytes(ARROW[:size])
    with pytest.raises(FormatError, match="not a readable Arrow stream: "):
        read_texts(golden)


def test_a_folder_that_holds_other_things_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("dear")
    with pytest.raises(UserError) as caught:
        dataset_folder.write(tmp_path, {"text": ["one"]}, {"text": STRING})
    assert str(caught.value) == f"{tmp_path}: is a folder with other files; name a new one"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_of_its_own_kind_is_replaced(tmp_path):
    saved(tmp_path / "d", {"text": ["one"]}, {"text": STRING})
    assert [text.text for text in read_texts(saved(tmp_path / "d", {"text": ["two"]}, {"text": STRING})).texts] == ["two"]
