"""Hugging Face's `datasets` reads our files: it is no dependency, so this runs where it is installed."""

import pytest
from support.toy_task import LABELS, a_task, toy_rows

from potstill.contract.soft_label import write_soft_labels
from potstill.contract.texts import Text, write_texts

datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install datasets")


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_soft_labels_come_back_row_for_row(tmp_path, ending):
    rows, file = toy_rows(12, a_task()), tmp_path / f"soft_labels.{ending}"
    write_soft_labels(file, rows)
    builder = {"parquet": "parquet", "jsonl": "json"}[ending]
    table = datasets.load_dataset(builder, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["text"] for row in table] == [row.text for row in rows]
    for found, row in zip(table, rows, strict=True):
        assert [dict(found["probs"])[name] for name in LABELS] == pytest.approx([row.probs[name] for name in LABELS])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_texts_come_back_with_their_ids_and_gold_labels(tmp_path):
    texts = [Text("oil will rise, they say", gold="up"), Text('she said "no", twice', gold="down"), Text("原油价格 🛢", gold="flat")]
    (tmp_path / "texts.jsonl").write_bytes(write_texts(texts))
    table = datasets.load_dataset(
        "json", data_files=str(tmp_path / "texts.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [(row["text"], row["gold"]) for row in table] == [(text.text, text.gold) for text in texts]
