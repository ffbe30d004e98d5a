import json
import shutil

import numpy as np
import pytest
import torch
from support.tiny_backbone import SHAPE, sizes, write_backbone, write_tokenizer
from support.toy_task import LABELS, gold_texts, write_gold
from transformers import AutoModelForSequenceClassification, AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.texts import Text
from potstill.trainer.evaluation.baselines.find import find_ready_made, ready_made_baseline
from potstill.trainer.evaluation.baselines.ready_made import open_ready_made, predict_ready_made
from potstill.trainer.evaluation.checkpoint_scores import predict
from potstill.trainer.evaluation.gold import read_gold
from potstill.trainer.evaluation.label_map import parse_label_map

pytestmark = pytest.mark.slow

FOREIGN = {"up": "positive", "flat": "neutral", "down": "negative"}
FINBERT = ["positive", "negative", "neutral"]  # the order of ProsusAI/finbert
TONE = ["Neutral", "Positive", "Negative"]  # the order of yiyanghkust/finbert-tone, capitals and all
MAP = "positive=up,negative=down,neutral=flat"


@pytest.fixture(scope="module")
def checkpoint(toy_student):
    return toy_student[0]


@pytest.fixture(scope="module")
def classifier(checkpoint, tmp_path_factory):
    """A function that saves the student's network as somebody else's classifier: outputs in this order, under these names."""

    def build(order, name="classifier", **config):
        folder = tmp_path_factory.mktemp("ready") / name
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
        ours = [next(label for label, foreign in FOREIGN.items() if foreign == name.lower()) for name in order]
        rows = [LABELS.index(label) for label in ours]
        model.classifier.weight = torch.nn.Parameter(model.classifier.weight[rows].detach().clone())
        model.classifier.bias = torch.nn.Parameter(model.classifier.bias[rows].detach().clone())
        model.config.id2label = dict(enumerate(order))
        model.config.label2id = {label: i for i, label in enumerate(order)}
        for key, value in config.items():
            setattr(model.config, key, value)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
        return folder

    return build


@pytest.fixture
def gold(checkpoint, tmp_path):
    """A function that reads gold texts under a map."""
    student = read_student(checkpoint)

    def read(*entries, texts=None):
        path = write_gold(tmp_path / "gold.jsonl", texts or gold_texts(60))
        return read_gold(path, student, parse_label_map(entries, student.labels))

    return read


@pytest.mark.parametrize("entries", [MAP, "positive=up,negative=down,neutral=,flat="])
def test_two_classifiers_with_other_orders_of_labels_give_the_same_answers(classifier, gold, entries):
    found = gold(entries)
    systems = [ready_made_baseline(open_ready_made(classifier(order)), "x", found) for order in (FINBERT, TONE)]
    np.testing.assert_allclose(systems[0].probs, systems[1].probs, atol=1e-6)
    assert (systems[0].probs.argmax(axis=1) == found.classes).mean() > 0.9


def test_its_probabilities_are_those_of_the_same_network_as_a_student(classifier, checkpoint, gold):
    found = gold(MAP)
    temperature = read_student(checkpoint).temperature
    flattened = ready_made_baseline(open_ready_made(classifier(TONE)), "x", found).probs ** (1 / temperature)
    expected = predict(checkpoint, found.texts)
    np.testing.assert_allclose(flattened / flattened.sum(axis=1, keepdims=True), expected, atol=1e-5)


def test_an_answer_does_not_depend_on_the_company_and_long_texts_are_cut(classifier):
    opened = open_ready_made(classifier(FINBERT))
    texts = [*(text.text for text in gold_texts(6)), "rise " * 5000]
    together = predict_ready_made(opened, texts)
    np.testing.assert_allclose(together, np.concatenate([predict_ready_made(opened, [text]) for text in texts]), atol=1e-6)
    assert opened.labels == FINBERT


def test_what_its_names_stand_for_and_what_it_lacks_is_told(classifier, gold):
    system = ready_made_baseline(open_ready_made(classifier(["Positive", "negative"])), "x", gold("positive=up,negative=down"))
    assert system.note == "up is its 'Positive'; down is its 'negative'; it has no 'flat'"
    assert (system.probs[:, 1] == 0).all()


def test_a_label_of_its_own_that_is_mapped_nowhere_is_refused(classifier, gold):
    folder = classifier(FINBERT)
    with pytest.raises(UserError) as caught:
        ready_made_baseline(open_ready_made(folder), "x", gold("positive=up"))
    assert str(caught.value) == (
        f"{folder}: 'negative' is not a label; allowed: up, flat, down; "
        "say what it stands for with --map 'negative=LABEL', or leave it out with --map 'negative='"
    )


def test_weights_of_an_older_form_are_read(classifier):
    folder = classifier(FINBERT)
    expected = predict_ready_made(open_ready_made(folder), ["price will rise"])
    torch.save(AutoModelForSequenceClassification.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    np.testing.assert_allclose(predict_ready_made(open_ready_made(folder), ["price will rise"]), expected, atol=1e-7)


def test_rows_are_named_after_folders_and_by_path_where_that_would_say_too_little(classifier):
    first, second, third = classifier(FINBERT, "finbert"), classifier(TONE, "finbert"), classifier(TONE, "teacher")
    names = ["majority", str(first), str(second), str(first), str(third)]
    assert list(find_ready_made(names)) == ["finbert", str(second), str(third)]


def test_a_name_that_is_not_a_folder_is_refused():
    with pytest.raises(
        UserError, match=r"^baseline 'finbert' is neither a folder nor one of majority, tfidf, gold; name one of these or a"
    ):
        find_ready_made(["gold", "finbert"])


def test_a_bare_encoder_is_refused(tmp_path):
    opened = open_ready_made(write_backbone(tmp_path))
    with pytest.raises(FormatError, match=r"lacks 2 weights, classifier.bias for one; name a classifier that was fine-tuned"):
        predict_ready_made(opened, ["rise"])


def changed(**changes):
    """Edits config.json."""

    def edit(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def without(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("config.json"), r"holds no config.json; name a folder with a transformers classifier$"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config.json: is not a configuration that transformers knows: "),
        (changed(problem_type="multi_label_classification"), r"problem_type: is multi_label_classification; only classifiers that"),
        (
            changed(id2label={"0": "score"}, label2id={"score": 0}),
            r"names 1 output; a classifier has at least 2$|requires `num_labels > 1`",
        ),
        (changed(id2label={"0": "a", "1": "a", "2": "b"}), r"id2label: is .*; it must give each of 3 outputs a different name$"),
        (
            lambda folder: [path.unlink() for path in folder.glob("*token*")],
            r"holds no readable tokenizer \(none of tokenizer\*\.json, vocab\*, ",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), r"cannot be loaded as a classifier: "),
        (changed(hidden_size=16), r"cannot be loaded as a classifier: "),
    ],
)
def test_a_folder_that_cannot_answer_is_refused_in_one_line(classifier, tmp_path, damage, message):
    folder = tmp_path / "classifier"
    shutil.copytree(classifier(FINBERT), folder)
    damage(folder)
    with pytest.raises(FormatError, match=message) as caught:
        predict_ready_made(open_ready_made(folder), ["rise"])
    assert "\n" not in str(caught.value)


def test_a_classifier_says_that_it_reads_no_target(classifier, gold):
    found = gold(MAP)
    about = [Text(text.text, text.id, "acme", text.gold) for text in found.texts]
    system = ready_made_baseline(
        open_ready_made(classifier(FINBERT)), "x", type(found)(found.path, about, found.label_map, found.names)
    )
    assert system.note.endswith("it reads no target")


def test_a_long_text_is_cut_to_the_places_that_a_roberta_has(tmp_path):
    model = RobertaForSequenceClassification(RobertaConfig(**SHAPE, **sizes() | {"pad_token_id": 1}, num_labels=2))
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    probs = predict_ready_made(open_ready_made(tmp_path), ["the price will rise " * 60])  # 64 places, of which two are never used
    assert probs.sum() == pytest.approx(1)
