import numpy as np
import pytest
import torch
from scipy.special import softmax
from support.tiny_backbone import SHAPE
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from potstill.trainer.calibration.temperature import minimize_nll, negative_log_likelihood
from potstill.trainer.calibration.vector_scaling import (
    MIN_TEXTS,
    VectorScaling,
    fit_factors_and_bias,
    fit_vector_scaling,
    fold_into_last_layer,
)
from potstill.trainer.students.encoder import Encoder, last_layer

FACTORS, BIAS = np.array([0.5, 1.5, 1.0]), np.array([1.0, -1.5, 0.5])
SIZES = SHAPE | {"vocab_size": 30, "num_hidden_layers": 1, "num_labels": 3}


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (600, 3))


def test_known_factors_and_biases_are_recovered(logits):
    factors, bias = fit_factors_and_bias(logits, softmax(logits * FACTORS + BIAS, axis=1))
    np.testing.assert_allclose(factors, FACTORS, rtol=1e-2)
    np.testing.assert_allclose(bias, BIAS - BIAS.mean(), atol=1e-2)


def test_it_is_kept_where_classes_are_off_in_different_ways(logits):
    targets = softmax(logits * FACTORS + BIAS, axis=1)
    drawn = np.array([np.random.default_rng(i).multinomial(1, row) for i, row in enumerate(targets)], dtype=float)
    found = fit_vector_scaling(logits, drawn)
    assert found.reason == "" and found.gain > found.error > 0
    assert found.as_text().startswith("used: log-loss 0.")
    assert negative_log_likelihood(found.scaled(logits), drawn, 1.0) < minimize_nll(logits, drawn)[1]


def test_where_a_temperature_is_right_it_is_not_used(logits):
    rng = np.random.default_rng(5)
    drawn = np.array([rng.multinomial(1, row) for row in softmax(logits / 2, axis=1)], dtype=float)
    found = fit_vector_scaling(logits, drawn)
    assert found.factors == (1, 1, 1) and found.bias == (0, 0, 0)
    assert found.as_text().startswith("not used: across 5 folds it saves ")


def test_too_few_texts_are_left_to_the_temperature(logits):
    few = logits[: MIN_TEXTS - 1]
    found = fit_vector_scaling(few, softmax(few * FACTORS + BIAS, axis=1))
    assert found.as_text() == "not used: 199 validation texts, at least 200 are needed"


def test_a_label_that_never_occurs_gets_a_finite_bias(logits):
    factors, bias = fit_factors_and_bias(logits, np.eye(3)[logits[:, :2].argmax(axis=1)])
    assert np.isfinite(factors).all() and np.isfinite(bias).all() and (factors > 0).all()


@pytest.mark.parametrize(
    ("kind", "config"), [(BertForSequenceClassification, BertConfig), (RobertaForSequenceClassification, RobertaConfig)]
)
def test_in_the_last_layer_it_gives_the_same_logits_as_outside(kind, config):
    torch.manual_seed(0)
    encoder = Encoder(kind(config(**SIZES)).eval(), type("Tokenizer", (), {"pad_token_id": 1})())
    features = [{"input_ids": [2, 5 + i, 7, 3], "attention_mask": [1, 1, 1, 1]} for i in range(8)]
    scaling = VectorScaling(tuple(FACTORS), tuple(BIAS), 0.1, 0.01)
    expected = scaling.scaled(encoder.logits(features).astype(np.float64))
    assert fold_into_last_layer(encoder, scaling, features) == ""
    np.testing.assert_allclose(encoder.logits(features), expected, atol=1e-5)


def test_a_student_whose_logits_come_from_elsewhere_stays_as_it_was():
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SIZES)).eval()
    plain = model.forward

    def clipped(*args, **options):
        output = plain(*args, **options)
        output.logits = torch.tanh(output.logits)
        return output

    model.forward = clipped
    encoder = Encoder(model, type("Tokenizer", (), {"pad_token_id": 1})())
    features = [{"input_ids": [2, 5, 3], "attention_mask": [1, 1, 1]}]
    before = encoder.logits(features)
    assert (
        fold_into_last_layer(encoder, VectorScaling(tuple(FACTORS), tuple(BIAS), 0.1, 0.01), features)
        == "the student's logits are not the outputs of its last layer"
    )
    np.testing.assert_array_equal(encoder.logits(features), before)


def test_a_model_without_such_a_layer_has_none():
    model = torch.nn.Sequential(torch.nn.Linear(4, 5))
    model.config = BertConfig(num_labels=3)
    assert last_layer(model) is None
