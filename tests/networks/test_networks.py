from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.tiny_backbone import WORDS
from support.toy_task import LABELS, a_task, sure_rows, write_rows
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, T5ForConditionalGeneration

from potstill.contract.errors import UserError
from potstill.contract.texts import Text
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.networks.static import Bag, StaticConfig, StaticForSequenceClassification
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.config import TrainConfig
from potstill.trainer.evaluation.checkpoint_scores import predict
from potstill.trainer.run import train
from potstill.trainer.students import encoder

pytestmark = pytest.mark.slow

# --- the encoder of a T5

TEXTS = ["the price will rise today", "puts", "", "so on and so on it goes they say maybe fall", "🚀 ça"]
QUICK = {"max_tokens": 24, "learning_rate": 3e-3, "head_rate": 1e-2, "epochs": 6, "threads": 1}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A whole T5, encoder and decoder, as its folders are."""
    folder = tmp_path_factory.mktemp("t5")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [(letter, -8.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(pieces), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu",
        decoder_start_token_id=0, initializer_factor=1.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["text", "pair"])
def trained(request, backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    task = a_task(target=request.param)
    write_rows(folder / "labels.jsonl", sure_rows(240, task))
    return train(task, folder / "labels.jsonl", folder / "student", TrainConfig(backbone=str(backbone), **QUICK)), request.param


def asked(texts, target):
    return [Text(text, target="acme" if target else None) for text in texts]


def test_a_student_begins_with_the_encoder_of_the_whole(backbone):
    student = encoder.from_backbone(backbone, LABELS, max_tokens=24, pair=False)
    whole = T5EncoderModel.from_pretrained(backbone)
    ids = torch.tensor([[5, 6, 7, 1]])
    with torch.inference_mode():
        ours = student.model.base_model.eval()(ids)[0]
        torch.testing.assert_close(ours, whole.eval()(ids)[0])
    assert student.family == "encoder"


def test_it_learns_which_word_counts(trained):
    report, target = trained
    gold = sure_rows(60, a_task(target=target), seed=1)
    answers = predict(report.checkpoint, asked([row.text for row in gold], target)).argmax(axis=1)
    assert np.mean([LABELS[i] == row.majority for i, row in zip(answers, gold, strict=True)]) > 0.9
    assert json.loads((report.checkpoint / "config.json").read_text())["model_type"] == "potstill-t5"


@pytest.mark.parametrize("variant", ["float", "static_int8"])
def test_its_bundle_answers_as_the_checkpoint_does_whatever_the_length(trained, variant, tmp_path):
    report, target = trained
    config = ExportConfig(max_drop=0.5, min_agreement=0.5, max_change=1.0, variant=variant, threads=1)
    exported = export_bundle(report.checkpoint, tmp_path / "bundle", config)
    assert exported.manifest.batch_invariant and exported.quality.torch_change_max < 1e-4
    texts = TEXTS if variant == "float" else [text for text in TEXTS if text]  # "" is unlike all that ranges come from
    with Classifier.open(tmp_path / "bundle") as classifier:
        found = classifier.probs(texts, ["acme"] * len(texts) if target else None)
    np.testing.assert_allclose(found, predict(report.checkpoint, asked(texts, target)), atol=1e-4 if variant == "float" else 0.1)


def test_masked_tokens_need_a_mask(backbone, trained, tmp_path):
    task = a_task()
    write_rows(tmp_path / "labels.jsonl", sure_rows(60, task))
    with pytest.raises(UserError, match="its tokenizer has no mask token, so no token can be masked; leave out --tapt"):
        train(task, tmp_path / "labels.jsonl", tmp_path / "student", TrainConfig(backbone=str(backbone), tapt=2, **QUICK))


# --- static students

NUMBERS = [[0.0, 0.0], [1.0, -4.0], [3.0, 2.0], [-2.0, 6.0]]  # by token


def a_bag() -> Bag:
    bag = Bag(StaticConfig(vocab_size=4, hidden_size=2))
    with torch.no_grad():
        bag.vectors.weight.copy_(torch.tensor(NUMBERS))
        bag.log_weights.weight.copy_(torch.log(torch.tensor([[1.0], [1.0], [3.0], [1.0]])))
    return bag


def test_a_text_is_the_weighted_mean_of_its_tokens_and_the_largest_and_least_of_each_number():
    found = a_bag()(torch.tensor([[1, 2]]), torch.ones(1, 2))
    torch.testing.assert_close(found, torch.tensor([[(1 + 3 * 3) / 4, (-4 + 3 * 2) / 4, 3.0, 2.0, 1.0, -4.0]]))


def test_tokens_that_are_masked_do_not_count_and_none_give_zeros():
    bag = a_bag()
    alone = bag(torch.tensor([[1, 2]]), torch.ones(1, 2))
    padded = bag(torch.tensor([[1, 2, 3, 0], [3, 3, 3, 3]]), torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0]]))
    assert torch.equal(padded[0, 2:], alone[0, 2:])  # to the bit
    torch.testing.assert_close(padded[0], alone[0])
    assert torch.equal(padded[1], torch.zeros(6))


def test_text_and_target_are_pooled_each_by_itself():
    config = StaticConfig(vocab_size=4, hidden_size=2, pair=True, num_labels=3)
    torch.manual_seed(0)
    model = StaticForSequenceClassification(config).eval()
    with torch.no_grad():
        model.bag.vectors.weight.copy_(torch.tensor(NUMBERS))
    assert model.dense.in_features == 12
    ids, mask = torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.int64)
    whole, other = (model(ids, mask, torch.tensor([types])).logits for types in ([0, 0, 1], [0, 1, 1]))
    assert not torch.allclose(whole, other)
    swapped = model(torch.tensor([[2, 1, 3]]), mask, torch.tensor([[0, 0, 1]])).logits
    torch.testing.assert_close(swapped, whole)  # no order within a part
