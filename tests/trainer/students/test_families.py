import json
import shutil

import numpy as np
import pytest
from support.tiny_backbone import NEVER
from support.toy_task import LABELS, a_task, sure_rows, write_rows
from tokenizers import Tokenizer

from potstill.contract.bundle import read_manifest
from potstill.contract.checkpoint import read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import Text, text_id, write_texts
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.config import RECIPES, TrainConfig
from potstill.trainer.evaluation.checkpoint_scores import evaluate, predict
from potstill.trainer.run import train

pytestmark = pytest.mark.slow

AWKWARD = ["", "rise", "x", "the price 🚀 will ça rise", "fall " * 300, "今日の株価", "tabs\tand\nlines [SEP] [PAD]"]
LOOSE = ExportConfig(max_drop=0.2, min_agreement=0.8, max_change=0.5, threads=1)
QUICK = {"threads": 1, "batch_size": 8, "max_tokens": 16}
OWN = {
    "static": {"family": "static", "learning_rate": 2e-2, "head_rate": 1e-1, "epochs": 6},
    "charformer": {"family": "charformer", "learning_rate": 1e-3, "head_rate": 5e-3, "epochs": 5, "pretrain": 3},
}


@pytest.fixture(scope="module", params=["static", "charformer", "static with target", "charformer with target"])
def trained(request, backbone, sure_labels, tmp_path_factory):
    family, target = request.param.split()[0], "target" in request.param
    folder = tmp_path_factory.mktemp("trained")
    config = TrainConfig(backbone=str(backbone), **QUICK, **OWN[family] | ({"epochs": 1} if target else {}))
    report = train(a_task(target=target), sure_labels / f"{target}.jsonl", folder / "student", config)
    export_bundle(report.checkpoint, folder / "bundle", LOOSE)
    return report, folder / "bundle"


def asked(report, texts):
    target = "acme" if report.student.target else None
    return [Text(text, text_id(text, target), target) for text in texts]


def test_a_checkpoint_names_its_family_and_reads_as_many_ids_as_that_takes(trained):
    student = read_student(trained[0].checkpoint)
    assert student.family in OWN
    assert student.max_tokens == 16 * RECIPES[student.family].ids_per_token
    assert json.loads((trained[0].checkpoint / "config.json").read_text())["model_type"] == f"potstill-{student.family}"


def test_a_static_student_learns_which_word_counts(backbone, sure_labels, tmp_path):
    config = TrainConfig(backbone=str(backbone), **QUICK, **OWN["static"])
    checkpoint = train(a_task(), sure_labels / "False.jsonl", tmp_path / "student", config).checkpoint
    gold = [Text(row.text, row.id, gold=row.majority) for row in sure_rows(90, a_task(), seed=1)]
    assert evaluate(checkpoint, gold)["macro_f1"].value > 0.9


def test_a_charformer_fits_what_it_is_shown_from_bytes_alone(trained):
    report, _ = trained
    if report.student.family == "charformer" and not report.student.target:
        shown = read_soft_labels(report.checkpoint / "gate.jsonl")
        answers = predict(report.checkpoint, [Text(row.text, row.id) for row in shown]).argmax(axis=1)
        assert np.mean([LABELS[i] == row.majority for i, row in zip(answers, shown, strict=True)]) > 0.6


def test_a_bundle_answers_as_its_checkpoint_does_whatever_the_text(trained):
    report, bundle = trained
    target = report.student.target
    quality = json.loads((bundle / "quality.json").read_text())
    assert quality["torch_change_max"] < 1e-5
    with Classifier.open(bundle) as classifier:
        found = classifier.probs(AWKWARD, ["acme"] * len(AWKWARD) if target else None)
        alone = [classifier.probs([text], ["acme"] if target else None)[0] for text in AWKWARD]
    np.testing.assert_array_equal(found, alone)
    np.testing.assert_allclose(
        found, predict(report.checkpoint, asked(report, AWKWARD)), atol=0.06
    )  # "" is unlike all that ranges come from


def test_answers_do_not_change_in_a_padded_batch(trained):
    forms = json.loads((trained[1] / "quality.json").read_text())["forms"]
    int8_on_the_fly = "dynamic_int8"  # takes its ranges from the batch, and is refused for that
    asked = [form for form in forms if form["variant"] != int8_on_the_fly]
    assert max(form[name] for form in asked for name in ("batch_change_max", "padding_change_max")) < 1e-6
    assert read_manifest(trained[1]).batch_invariant


def test_a_long_text_is_cut_before_it_is_read_and_gets_the_ids_of_the_whole(trained):
    report, bundle = trained
    about = ["acme"] if report.student.target else []
    whole = Tokenizer.from_file(str(report.checkpoint / "tokenizer.json"))
    with Classifier.open(bundle) as classifier:
        for text in ("the price will rise " * 3000, "ça 🚀" * 4000, "a" * 20000):
            assert classifier.tokenizer.ids(text, *about)["input_ids"][0].tolist() == whole.encode(text, *about).ids


def test_a_second_run_gives_the_same_weights(trained, backbone, sure_labels, tmp_path):
    report, _ = trained
    if report.student.target:  # one epoch, so it is quick
        config = TrainConfig(backbone=str(backbone), **QUICK, **OWN[report.student.family] | {"epochs": 1})
        again = train(a_task(target=True), sure_labels / "True.jsonl", tmp_path / "again", config).checkpoint
        assert (again / "model.safetensors").read_bytes() == (report.checkpoint / "model.safetensors").read_bytes()


def test_a_static_student_keeps_the_words_of_the_texts_and_every_letter_with_the_tokens_as_before(backbone, sure_labels, tmp_path):
    config = TrainConfig(backbone=str(backbone), **QUICK, **OWN["static"] | {"epochs": 1})
    checkpoint = train(a_task(), sure_labels / "False.jsonl", tmp_path / "student", config).checkpoint
    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (backbone, checkpoint))
    assert before.get_vocab_size() - after.get_vocab_size() == len(NEVER)
    for row in sure_rows(50, a_task(), seed=2):
        assert after.encode(row.text).tokens == before.encode(row.text).tokens
    assert after.encode("zebra").tokens == ["[CLS]", "z", "##e", "##b", "##r", "##a", "[SEP]"]
    assert json.loads((checkpoint / "config.json").read_text())["vocab_size"] == after.get_vocab_size()


def test_a_student_learns_from_another_ones_answers_and_from_texts_without_labels(backbone, sure_labels, tmp_path):
    encoder = {"backbone": str(backbone), "learning_rate": 6e-3, "head_rate": 6e-3, "epochs": 5}
    teacher = train(a_task(), sure_labels / "False.jsonl", tmp_path / "teacher", TrainConfig(**encoder, **QUICK)).checkpoint
    more = [Text(row.text, row.id) for row in sure_rows(200, a_task(), seed=3)]
    (tmp_path / "pool.jsonl").write_bytes(write_texts(more))
    few = sure_rows(40, a_task())
    write_rows(tmp_path / "few.jsonl", few)
    options = {"from_student": str(teacher), "pool": str(tmp_path / "pool.jsonl"), "loss": "soft_ce"}
    config = TrainConfig(backbone=str(backbone), **QUICK, **OWN["static"], **options)
    report = train(a_task(), tmp_path / "few.jsonl", tmp_path / "student", config)
    texts = [Text(row.text, row.id) for row in sure_rows(60, a_task(), seed=4)]
    agree = predict(report.checkpoint, texts).argmax(axis=1) == predict(teacher, texts).argmax(axis=1)
    assert agree.mean() > 0.8
    assert report.n_kept <= len(few)  # the checkpoint counts labelled texts alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "forest"}, "family is 'forest'; allowed: encoder, static, charformer"),
        ({"pretrain": 5}, "pretrain is 5, but only family charformer takes it, not encoder"),
        ({"pool": "x.jsonl"}, "pool is 'x.jsonl', but nothing would use it; add --from, --tapt or --pretrain"),
    ],
)
def test_settings_that_do_not_fit_a_family_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**options)


def test_a_charformer_of_too_few_bytes_is_refused(sure_labels, backbone, tmp_path):
    config = TrainConfig(backbone=str(backbone), **QUICK | {"max_tokens": 3}, family="charformer")
    with pytest.raises(UserError, match="max_tokens is 3; a charformer, which reads 4 bytes for each, allows 4 to 1024"):
        train(a_task(), sure_labels / "False.jsonl", tmp_path / "student", config)


def test_a_teaching_student_of_another_task_is_refused(trained, sure_labels, backbone, tmp_path):
    report, _ = trained
    task = a_task(target=not report.student.target)
    config = TrainConfig(backbone=str(backbone), **QUICK, family="static", from_student=str(report.checkpoint))
    with pytest.raises(UserError, match=r"answers up, flat, down.*, but task 'moves' asks for up, flat, down.*; name a student of"):
        train(task, sure_labels / f"{task.input.target}.jsonl", tmp_path / "student", config)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "holds no config.json"),
        ("config.json", "{", "config.json: is not a configuration"),
        ("model.safetensors", None, "cannot be loaded as a classifier"),
        ("model.safetensors", "not weights", "cannot be loaded as a classifier"),
        ("tokenizer.json", "{", "holds no readable tokenizer"),
        (
            "student.json",
            '"family": "encoder"',
            r"config.json: model_type: is 'potstill-.*', but student.json says family 'encoder'",
        ),
        ("student.json", '"family": "forest"', "student.json: family: is 'forest'; allowed: encoder, static, charformer"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(trained, tmp_path, name, content, message):
    report, _ = trained
    folder = shutil.copytree(report.checkpoint, tmp_path / "student")
    before = (folder / name).read_text(errors="replace")
    (folder / name).unlink()
    if content is not None:
        found = before.replace(f'"family": "{report.student.family}"', content) if name == "student.json" else content
        (folder / name).write_text(found)
    with pytest.raises(FormatError, match=message) as caught:
        predict(folder, asked(report, ["rise"]))
    assert "\n" not in str(caught.value)
