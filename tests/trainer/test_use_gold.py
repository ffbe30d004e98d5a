"""`potstill train --use-gold`: gold labels are trained on where it is asked for and said, and never otherwise."""

import json

import msgspec
import numpy as np
import pytest
from support.tiny_backbone import VOCABULARY, write_backbone
from support.tiny_bundle import a_manifest
from support.toy_questions import TAGS, WORDS, a_questionnaire, answer_rows, answered_gold
from support.toy_task import LABELS, a_task, quick, soft_label, toy_rows, write_gold, write_rows

from potstill.commands.main import run as console
from potstill.contract.bundle import Manifest, write_manifest
from potstill.contract.checkpoint import GOLD_ROWS_FILE, read_student
from potstill.contract.errors import UserError
from potstill.contract.files import decode
from potstill.contract.questions.soft_answers import read_soft_answers, write_soft_answers
from potstill.contract.soft_label import entropy, read_soft_labels
from potstill.contract.texts import Text, text_id
from potstill.export.bundle import card
from potstill.trainer.config import TrainConfig
from potstill.trainer.data.gold_labels import answers_with_gold, labels_with_gold, read_gold_labels, trained_gold
from potstill.trainer.data.rows import read_trained_rows, select_rows
from potstill.trainer.data.selection import is_validation
from potstill.trainer.run import train
from potstill.workflows.evaluation import evaluate

pytestmark = pytest.mark.slow
SHARE = TrainConfig.validation_share


def others_of(rows):
    """The rows' texts, each with another label than the teacher's."""
    return [Text(row.text, row.id, None, LABELS[LABELS.index(row.majority) - 1]) for row in rows]


def read(path, how="replace", task=None, right=None):
    return read_gold_labels(path, task or a_task(), how, right)


def test_a_gold_label_takes_the_place_of_the_teachers(tmp_path):
    rows = toy_rows(60, a_task())
    gold = others_of(rows[:20])
    made, touched, used = labels_with_gold(rows, read(write_gold(tmp_path / "g.jsonl", gold)), SHARE)
    wanted = {text.id: text.gold for text in gold if not is_validation(text.text, SHARE)}
    assert [row.id for row in made] == [row.id for row in rows] and {row.id for row in touched} == set(wanted)
    for before, row in zip(rows, made, strict=True):
        if row.id not in wanted:
            assert row == before
            continue
        assert row.probs == {name: float(name == wanted[row.id]) for name in LABELS}
        assert (row.majority, row.agreement, row.entropy, row.method) == (wanted[row.id], 1.0, 0.0, "votes+gold")
    assert (used.how, used.n_changed, used.n_new, used.n_held_out) == ("replace", len(wanted), 0, 20 - len(wanted))


def test_joined_it_counts_as_much_as_all_paths_together(tmp_path):
    rows = [soft_label("calls the", "up", a_task(), votes=6), soft_label("it puts", "down", a_task(), votes=8)]
    rows = [row for row in rows if not is_validation(row.text, SHARE)]
    gold = [Text(row.text, row.id, None, "flat") for row in rows]
    made, _, _ = labels_with_gold(rows, read(write_gold(tmp_path / "g.jsonl", gold), "join"), SHARE)
    for before, row in zip(rows, made, strict=True):
        assert row.probs == pytest.approx({name: (before.probs[name] + (name == "flat")) / 2 for name in LABELS})
        assert (row.n_paths, sum(row.votes.values())) == (16, 16)
        assert row.agreement == pytest.approx(max(row.votes.values()) / 16)


def contradicted(rows, n, n_wrong):
    """Gold for the first n rows: what the teacher says, but for the first n_wrong of them."""
    return [*others_of(rows[:n_wrong]), *(Text(row.text, row.id, None, row.majority) for row in rows[n_wrong:n])]


def test_weighed_it_is_evidence_beside_the_teachers_label(tmp_path):
    rows = toy_rows(200, a_task())
    path = write_gold(tmp_path / "g.jsonl", contradicted(rows, 100, 30))
    made, touched, used = labels_with_gold(rows, read(path, "weigh"), SHARE)
    right = used.right[""]
    n = sum(not is_validation(row.text, SHARE) for row in rows[:100])
    assert right.n_compared == n == used.n_changed and right.interval[0] < right.share < right.interval[1]
    assert f"people are taken to be right on {right.share:.0%} (estimated from {n} labels" in used.as_text()
    for i, (before, row) in enumerate(zip(rows, made, strict=True)):
        if row not in touched:
            assert row == before
            continue
        said = LABELS[LABELS.index(before.majority) - 1] if i < 30 else before.majority
        shift = dict(zip(LABELS, np.exp(right.bias), strict=True))
        prior = {name: max(p, 1e-6) ** (1 / right.temperature) * shift[name] for name, p in before.probs.items()}
        both = {name: p * (right.share if name == said else (1 - right.share) / 2) for name, p in prior.items()}
        assert row.probs == pytest.approx({name: p / sum(both.values()) for name, p in both.items()}, abs=1e-9)
        assert row.majority == max(row.probs, key=row.probs.__getitem__) and (row.agreement, row.n_paths) == (1.0, before.n_paths)
        assert row.entropy == pytest.approx(entropy(list(row.probs.values()))) and row.method == "votes+gold"


def test_held_out_texts_say_nothing_about_how_often_people_are_right(tmp_path):
    rows = toy_rows(200, a_task())
    gold = [
        Text(row.text, row.id, None, LABELS[0] if is_validation(row.text, SHARE) else row.majority) for row in rows
    ]  # people who contradict the teacher on held-out texts alone
    kept = [text for text in gold if not is_validation(text.text, SHARE)]
    found = [labels_with_gold(rows, read(write_gold(tmp_path / "g.jsonl", some), "weigh"), SHARE)[2].right for some in (gold, kept)]
    assert found[0] == found[1]


def test_people_who_are_stated_to_be_always_right_replace_the_teacher(tmp_path):
    rows = toy_rows(60, a_task())
    path = write_gold(tmp_path / "g.jsonl", others_of(rows[:20]))
    weighed, _, used = labels_with_gold(rows, read(path, "weigh", right=1.0), SHARE)
    replaced, _, _ = labels_with_gold(rows, read(path), SHARE)
    assert [row.probs for row in weighed] == [pytest.approx(row.probs, abs=1e-9) for row in replaced]
    assert "people are taken to be right on 100% (stated)" in used.as_text()


def test_a_text_that_no_path_could_label_or_nobody_asked_about_has_the_persons_label_alone(tmp_path):
    rows = [row for row in toy_rows(40, a_task()) if not is_validation(row.text, SHARE)]
    rows[0] = msgspec.structs.replace(
        rows[0], votes=dict.fromkeys(LABELS, 0), agreement=0.0, probs={"up": 0.9, "flat": 0.05, "down": 0.05}
    )
    gold = [Text(rows[0].text, rows[0].id, None, "down"), Text("they say that fall maybe", "new", None, "down")]
    assert not is_validation(gold[1].text, SHARE)
    path = write_gold(tmp_path / "g.jsonl", gold)
    _, touched, used = labels_with_gold(rows, read(path, "weigh", right=0.7), SHARE)
    assert used.right[""].n_compared == 0 and used.n_new == 1
    for row in touched:
        assert row.probs == pytest.approx({"up": 0.15, "flat": 0.15, "down": 0.7}) and row.majority == "down"


def test_every_question_has_its_own_share_and_tags_are_weighed_one_by_one(tmp_path):
    task = a_questionnaire()
    rows = answer_rows(300, task, left_out=["asks"])
    lines = []
    for i, row in enumerate(rows[:200]):
        said = {name: label for name, label in row.answers.items() if label is not None}
        given = {name: max(label.probs, key=label.probs.__getitem__) for name, label in said.items()}
        given["topics"] = [tag for tag, p in said["topics"].probs.items() if p >= 0.5]
        if i % 2:  # half of the answers about `sure` are wrong, all others are the teacher's
            given["sure"] = next(name for name in said["sure"].probs if name != given["sure"])
        lines.append(json.dumps({"text": row.text, "id": row.id, "gold": given}))
    (tmp_path / "g.jsonl").write_text("\n".join(lines))
    made, touched, used = answers_with_gold(rows, read(tmp_path / "g.jsonl", "weigh", task), SHARE, task.questions)
    right = used.right
    assert list(right) == ["move", "asks", "topics", "sure"] and right["sure"].share + 0.2 < right["move"].share
    n = {name: one.n_compared for name, one in right.items()}
    assert n["topics"] == len(TAGS) * n["move"] and n["move"] == n["sure"] > n["asks"]
    assert "sure: on " in used.as_text()
    before, row = next((b, m) for b, m in zip(rows, made, strict=True) if m is touched[0])
    one = right["topics"]
    for tag, p in before.answers["topics"].probs.items():
        shares = np.maximum([p, 1 - p], 1e-6) ** (1 / one.temperature) * np.exp(one.bias)
        holds, not_ = shares
        yes, no = (one.share, 1 - one.share) if p >= 0.5 else (1 - one.share, one.share)
        assert row.answers["topics"].probs[tag] == pytest.approx(holds * yes / (holds * yes + not_ * no), abs=1e-9)
    write_soft_answers(tmp_path / "rows.jsonl", made)
    assert read_soft_answers(tmp_path / "rows.jsonl", task.questions) == made


def test_a_stated_share_no_better_than_chance_is_refused(tmp_path):
    rows = toy_rows(60, a_task())
    gold = read(write_gold(tmp_path / "g.jsonl", others_of(rows[:20])), "weigh", right=0.3)
    with pytest.raises(
        UserError, match=r"gold_right is 0.3, but chance is right as often where the task has 3 labels; give more than 0.333"
    ):
        labels_with_gold(rows, gold, SHARE)


def test_texts_without_a_soft_label_are_added(tmp_path):
    rows = toy_rows(40, a_task())
    gold = [Text("so it will rise then", rows[0].id, None, "up"), Text("they say fall maybe", "new", None, "down")]
    gold = [text for text in gold if not is_validation(text.text, SHARE)]
    assert gold
    made, touched, used = labels_with_gold(rows, read(write_gold(tmp_path / "g.jsonl", gold)), SHARE)
    assert made[:40] == rows and made[40:] == touched and used.n_new == len(gold)
    assert len({row.id for row in made}) == len(made)  # an id that is taken by another text
    assert all((row.method, row.n_paths) == ("gold", 1) for row in touched)


def test_gold_of_held_out_texts_alone_is_refused(tmp_path):
    held_out = [row for row in toy_rows(200, a_task()) if is_validation(row.text, SHARE)]
    gold = read(write_gold(tmp_path / "g.jsonl", others_of(held_out)))
    with pytest.raises(
        UserError, match=rf"g.jsonl: all {len(held_out)} texts with a gold label are held out, so none would be trained on"
    ):
        labels_with_gold(held_out, gold, SHARE)


def test_a_question_without_a_gold_answer_keeps_the_teachers(tmp_path):
    task = a_questionnaire()
    rows = answer_rows(40, task, left_out=["asks"])
    at = next(i for i, row in enumerate(rows) if row.answers["asks"] is None and not is_validation(row.text, SHARE))
    given = {"asks": True, "topics": ["news"]}
    (tmp_path / "g.jsonl").write_text(json.dumps({"text": rows[at].text, "id": rows[at].id, "gold": given}))
    for how in ("replace", "join"):
        gold = read(tmp_path / "g.jsonl", how, task)
        made, touched, _ = answers_with_gold(rows, gold, SHARE, task.questions)
        row = made[at]
        assert touched == [row] and made[:at] == rows[:at]
        assert row.answers["asks"].probs == {"yes": 1.0, "no": 0.0} and row.answers["asks"].method == "gold"
        assert row.answers["move"] == rows[at].answers["move"]
        before = rows[at].answers["topics"].probs
        assert row.answers["topics"].probs == pytest.approx(
            {tag: float(tag == "news") if how == "replace" else (before[tag] + (tag == "news")) / 2 for tag in before}
        )
    write_soft_answers(tmp_path / "rows.jsonl", made)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Backbone, soft labels, and gold texts that contradict the teacher."""
    folder = tmp_path_factory.mktemp("gold")
    rows = toy_rows(240, a_task())
    write_backbone(folder / "backbone")
    write_rows(folder / "plain.jsonl", rows)
    write_rows(folder / "with_gold_field.jsonl", [msgspec.structs.replace(row, gold="up") for row in rows])
    write_gold(folder / "gold.jsonl", [*others_of(rows[:60]), Text("so it will rise then", "n", None, "flat")])
    write_gold(folder / "fresh.jsonl", [Text(f"{word} calls the", text_id(word, None), None, "up") for word in ("so", "and", "on")])
    return folder


@pytest.fixture(scope="module")
def with_gold(place):
    return train(
        a_task(), place / "plain.jsonl", place / "used", quick(place / "backbone", epochs=2, use_gold=str(place / "gold.jsonl"))
    )


def test_what_people_were_taken_to_be_is_written_down(place, tmp_path):
    config = quick(place / "backbone", epochs=1, use_gold=str(place / "gold.jsonl"), gold_as="weigh")
    report = train(a_task(), place / "plain.jsonl", tmp_path / "weighed", config)
    used = read_student(tmp_path / "weighed").used_gold
    assert used == report.student.used_gold and 1 / 3 < used.right[""].share < 0.6  # they contradict a teacher who is sure
    assert f"people are taken to be right on {used.right[''].share:.0%} (estimated from" in report.as_text()


def weights(checkpoint):
    return (checkpoint / "model.safetensors").read_bytes()


def test_without_the_option_no_gold_label_is_trained_on(place, with_gold):
    config = quick(place / "backbone", epochs=2)
    plain, fields = (train(a_task(), place / f"{name}.jsonl", place / name, config) for name in ("plain", "with_gold_field"))
    assert weights(plain.checkpoint) == weights(fields.checkpoint) != weights(with_gold.checkpoint)
    assert "used_gold" not in (plain.checkpoint / "student.json").read_text()
    assert not (plain.checkpoint / GOLD_ROWS_FILE).exists()
    assert "person" not in plain.as_text()


def test_the_record_and_the_report_say_so(place, with_gold):
    used = read_student(place / "used").used_gold
    assert used == with_gold.student.used_gold and used.how == "replace"
    assert (
        "right" not in json.loads((place / "used" / "student.json").read_text())["used_gold"]
    )  # earlier versions know no such field
    assert used.n_changed + used.n_new + used.n_held_out == 61
    assert used.as_text() in with_gold.as_text()
    assert used.as_text().startswith(f"{used.n_changed} training texts have a label that a person gave, in place of the teacher's")


def test_held_out_texts_keep_the_teachers_label(place):
    rows = {row.id: row for row in read_soft_labels(place / "plain.jsonl")}
    for row in read_soft_labels(place / "used" / "validation.jsonl"):
        assert row == rows[row.id]


def test_the_rows_that_were_trained_on_are_found_again(place, with_gold):
    found = read_trained_rows(place / "plain.jsonl", place / "used", read_student(place / "used"))
    gold = read(place / "gold.jsonl")
    merged, _, _ = labels_with_gold(read_soft_labels(place / "plain.jsonl"), gold, SHARE)
    expected, _ = select_rows("", merged, SHARE, TrainConfig.min_agreement)
    assert sorted(found.training, key=lambda row: row.id) == sorted(expected.training, key=lambda row: row.id)


def test_scores_leave_out_the_texts_that_it_was_trained_on(place, with_gold):
    (place / "both.jsonl").write_bytes((place / "gold.jsonl").read_bytes() + (place / "fresh.jsonl").read_bytes())
    known = trained_gold(place / "used", with_gold.student)
    found = evaluate(place / "used", place / "both.jsonl")
    assert f"left out {len(known)} of 64 gold texts: the student was trained on them with their gold labels" in found.notes
    assert found.systems[0].probs.shape[0] == 64 - len(known)


def test_gold_that_was_trained_on_alone_scores_nothing(place, with_gold):
    write_gold(
        place / "known.jsonl",
        [Text(text, str(i), about, "up") for i, (text, about) in enumerate(trained_gold(place / "used", with_gold.student))],
    )
    with pytest.raises(UserError, match="known.jsonl: left out .* gold labels; give other gold texts"):
        evaluate(place / "used", place / "known.jsonl")


def test_a_student_of_several_questions_takes_gold_too(tmp_path):
    task = a_questionnaire()
    write_backbone(tmp_path / "backbone", [*VOCABULARY, *WORDS])
    write_soft_answers(tmp_path / "soft.jsonl", answer_rows(200, task))
    write_gold(tmp_path / "gold.jsonl", answered_gold(40))
    config = quick(tmp_path / "backbone", family="static", epochs=1, use_gold=str(tmp_path / "gold.jsonl"), gold_as="join")
    report = train(task, tmp_path / "soft.jsonl", tmp_path / "student", config)
    used = read_student(tmp_path / "student").used_gold
    assert used.how == "join" and used.n_new > 20 and used.as_text() in report.as_text()
    assert len(trained_gold(tmp_path / "student", report.student, task.questions)) == used.n_changed + used.n_new
    with pytest.raises(UserError, match="was trained on them with their gold labels; give other gold texts"):
        kept = [text for text in answered_gold(40) if not is_validation(text.text, SHARE)]
        evaluate(tmp_path / "student", write_gold(tmp_path / "kept.jsonl", kept))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--use-gold", "none.jsonl"), "none.jsonl: no such file; check the path"),
        (
            ("--use-gold", "gold.jsonl", "--from", "student"),
            "--from replaces every label by a student's answer, so --use-gold would do nothing",
        ),
        (("--use-gold", "gold.jsonl", "--sweep"), "--use-gold trains on gold labels, and --sweep compares settings without them"),
        (("--use-gold", "bad.jsonl"), "bad.jsonl: line 1: gold: 'sideways' is not a label; allowed: up, flat, down"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(place, tmp_path, monkeypatch, capsys, options, message):
    from potstill.contract.task import task_to_json

    monkeypatch.chdir(place)
    (place / "bad.jsonl").write_text('{"text": "a", "gold": "sideways"}\n')
    task = msgspec.json.decode(task_to_json(a_task()))
    lines = [
        'format = 1\nname = "moves"\nquestion = "?"\n',
        *(f'[[labels]]\nname = "{label["name"]}"\nmeaning = "{label["meaning"]}"\n' for label in task["labels"]),
    ]
    lines += [
        f'[[examples]]\ntext = "{one["text"]}"\nrationale = "it says so"\nlabel = "{one["label"]}"\n' for one in task["examples"]
    ]
    (place / "task.toml").write_text("".join(lines))
    assert console(["train", "task.toml", "plain.jsonl", str(tmp_path / "out"), "--backbone", "backbone", *options]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_the_settings_are_checked():
    with pytest.raises(UserError, match="gold_as is 'mix'; it must be one of replace, join, weigh"):
        TrainConfig(gold_as="mix")
    for right in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(UserError, match=f"gold_right is {right}; it must be above 0 and at most 1"):
            TrainConfig(use_gold="gold.jsonl", gold_as="weigh", gold_right=right)
    for settings in ({"use_gold": "gold.jsonl", "gold_as": "join"}, {"gold_as": "weigh"}):
        with pytest.raises(UserError, match="gold_right is 0.8, but only gold labels that are weighed need it"):
            TrainConfig(gold_right=0.8, **settings)


def test_the_bundle_and_its_card_say_so(with_gold, tmp_path):
    used, plain = with_gold.student.used_gold, a_manifest()
    said = msgspec.structs.replace(plain, provenance=msgspec.structs.replace(plain.provenance, used_gold=used))
    for manifest in (plain, said):
        write_manifest(tmp_path, manifest)
        assert ("used_gold" in (tmp_path / "bundle.json").read_text()) == (manifest is said)
        assert decode.json(tmp_path / "bundle.json", (tmp_path / "bundle.json").read_bytes(), Manifest) == manifest
        assert (f"{used.as_text()}." in card._origin(manifest)) == (manifest is said)
