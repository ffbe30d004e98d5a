from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from potstill.contract.errors import FormatError
from potstill.export.tokenizer.files import config_json, pad_token_id, tokenizer_config_json, tokenizer_json


@pytest.fixture
def checkpoint(tmp_path):
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"model_type": "bert", "_name_or_path": "/home/me/model", "id2label": {"0": "LABEL_0"}, "pad_token_id": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 512, "vocab_file": "/home/me/vocab.txt"})
    )
    return tmp_path


def test_the_tokenizer_truncates_and_does_not_pad(checkpoint):
    tokenizer = Tokenizer.from_str(tokenizer_json(checkpoint, 5).decode())
    assert len(tokenizer.encode("a b " * 40).ids) == 5
    assert len(tokenizer.encode("a").ids) == 1


def test_written_twice_it_is_the_same(checkpoint):
    first = tokenizer_json(checkpoint, 5)
    (checkpoint / "tokenizer.json").write_bytes(first)
    assert tokenizer_json(checkpoint, 5) == first


def test_the_configuration_names_the_labels_in_output_order_and_no_path(checkpoint):
    found = json.loads(config_json(checkpoint, ["up", "down"]))
    assert list(found["id2label"].items()) == [("0", "up"), ("1", "down")]
    assert found["label2id"] == {"up": 0, "down": 1}
    assert found["problem_type"] == "single_label_classification"
    assert found["model_type"] == "bert"
    assert "_name_or_path" not in found


def test_the_tokenizer_configuration_has_the_length_and_no_path(checkpoint):
    assert json.loads(tokenizer_config_json(checkpoint, 64)) == {"tokenizer_class": "BertTokenizer", "model_max_length": 64}


def test_the_padding_id_is_that_of_the_model_or_zero(checkpoint):
    assert pad_token_id(checkpoint) == 3
    (checkpoint / "config.json").write_text('{"pad_token_id": null}')
    assert pad_token_id(checkpoint) == 0


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("tokenizer.json", lambda folder: tokenizer_json(folder, 5)),
        ("config.json", lambda folder: config_json(folder, ["a", "b"])),
        ("tokenizer_config.json", lambda folder: tokenizer_config_json(folder, 5)),
    ],
)
@pytest.mark.parametrize("content", [None, b"[]", b"\xff"])
def test_a_missing_or_malformed_file_is_named(checkpoint, name, read, content):
    (checkpoint / name).unlink()
    if content is not None:
        (checkpoint / name).write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read(checkpoint)
    assert caught.value.path == checkpoint / name
