"""Texts become the backbone's mean token states, whatever batch they share."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from potstill.contract.errors import FormatError
from potstill.contract.system.progress import watched_by
from potstill.contract.texts import Text
from potstill.labeler import embeddings as embed
from potstill.labeler.embeddings import embeddings

pytestmark = pytest.mark.slow

TEXTS = [
    Text("Up we go", "1"),
    Text("A much longer text about a stock that somebody bought in the morning and sold at noon.", "2"),
    Text("Up we go", "3"),
    Text("Up we go", "4", target="ACME"),
    Text("word " * 2000, "5"),
    Text("x", "6"),
]


@pytest.fixture(scope="module")
def expected(minilm):
    """One by one, with the library's own padding and no batch."""
    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm)
    rows = []
    for text in TEXTS:
        inputs = tokenizer(text.text, text.target, truncation=True, max_length=256, padding=False, return_tensors="pt")
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(dim=0)
        rows.append((mean / mean.norm()).numpy())
    return np.array(rows)


@pytest.mark.parametrize("batch_tokens", [1, 60, 8192])
def test_a_text_is_the_same_point_alone_and_in_any_batch(minilm, expected, batch_tokens, monkeypatch):
    monkeypatch.setattr(embed, "BATCH_TOKENS", batch_tokens)
    found = embeddings(TEXTS, minilm)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_equal_texts_are_one_point_and_a_target_makes_another(minilm):
    found = embeddings(TEXTS, minilm)
    assert (found[0] == found[2]).all()
    assert np.abs(found[0] - found[3]).max() > 0.01


def test_the_same_texts_give_the_same_bits(minilm):
    assert (embeddings(TEXTS, minilm) == embeddings(TEXTS, minilm)).all()


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_transformers_cannot_read_is_one_line(tmp_path, minilm, broken):
    for file in minilm.iterdir():
        if file.is_file() and file.name in {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}:
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / broken).unlink()
    (tmp_path / broken).write_text("{")
    with pytest.raises(FormatError) as caught:
        embeddings(TEXTS, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: holds no encoder that transformers can read (")
    assert str(caught.value).endswith("; name another backbone")
    assert "\n" not in str(caught.value)


def test_whoever_watches_is_told_how_many_different_texts_are_embedded(minilm, monkeypatch):
    monkeypatch.setattr(embed, "BATCH_TOKENS", 60)
    told = []
    with watched_by(lambda *one: told.append(one)):
        embeddings(TEXTS, minilm)
    counts = [done for stage, done, total in told if (stage, total) == ("embed texts", 5)]
    assert told[0] == ("load the encoder", 0, 0)
    assert len(counts) > 2 and counts == sorted(counts) and counts[-1] == 5
