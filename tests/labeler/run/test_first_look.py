"""The teacher's first look: groups of similar labels, comparable answers, candidates that no label is excluded by."""

import math

import numpy as np
import pytest
from support.teachers.many_labels import NAMES, TASK, TEXTS

from potstill.contract.errors import StoppedError, UserError
from potstill.contract.texts import write_texts
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.config import LabelConfig
from potstill.labeler.narrowing import label_groups, not_narrowed
from potstill.labeler.prompts.variants import chosen_by_similarity
from potstill.labeler.run.first_look import first_look
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teacher import Identity, TeacherPath, TooLong, path_seed
from potstill.labeler.teachers.config import TeacherConfig
from potstill.workflows.labelling import label as label_file
from potstill.workflows.teacher import nearest_worked_examples

LOOK = LabelConfig(mode="direct", n_paths=2, first_look=8)


class Reading:
    """Finds a name the likelier the more of its words are in the text; it prefers single names, whatever the text is."""

    identity = Identity("reading", "d", "d", "build 1")

    def __init__(self, stop_after=10**9):
        self.looked_at, self.left = [], stop_after

    def answer(self, prefix, variant, requests, spec, run_seed, enough=None):
        shown = [word for word in spec.words if f"- {word}" in prefix]
        for request in requests:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            if "not this one" in request.prompt:
                yield TooLong(request.text_id, 99, 9)
                continue
            text = request.prompt.lower().rsplit("text", 1)[-1]
            own = [4.0 * sum(part in text for part in word.split()) - 20 + len(word) % 3 * 3 for word in spec.words]
            if len(shown) == len(spec.words):  # labels stand in the prefix in a first look alone
                self.looked_at.append(request.text_id)
            for path in request.paths:
                seed = path_seed(run_seed, request.text_id, path)
                yield TeacherPath(request.text_id, path, variant, seed, "", tuple(own), 9, 0)


def chosen(config=LOOK, texts=TEXTS):
    return chosen_by_similarity(TASK, texts, config, None)


@pytest.mark.parametrize("n_most", [2, 7, 8, 30, 40])
def test_groups_hold_every_label_once_are_of_like_size_and_begin_with_what_is_similar(n_most):
    places = np.arange(30)
    similar = -np.abs(places[:, None] - places[None]).astype(np.float32)
    groups = label_groups(similar, n_most)
    assert sorted(label for own in groups for label in own) == list(range(30))
    sizes = [len(own) for own in groups]
    assert max(sizes) <= n_most and max(sizes) - min(sizes) <= 1
    assert groups[0] == tuple(range(sizes[0]))


def test_without_an_encoder_labels_of_the_same_words_share_a_group():
    groups = not_narrowed(TASK, TEXTS, 10, 5).groups
    assert len(groups) == 6
    together = [len({NAMES[i].partition("_")[part] for i in own}) == 1 for own in groups for part in (0, 2)]
    assert sum(together) >= 4


def test_what_the_teacher_says_without_a_text_is_taken_out():
    said = first_look(TASK, TEXTS, Reading(), LOOK, chosen().groups)
    assert said.shape == (len(TEXTS), len(NAMES))
    best = [NAMES[place] for place in said.argmax(axis=1)]
    assert [name == text.gold for name, text in zip(best, TEXTS, strict=True)].count(True) >= 9


def test_a_text_that_is_too_long_for_a_look_keeps_what_similarity_says():
    texts = [TEXTS[0], type(TEXTS[0])("not this one", "long")]
    said = first_look(TASK, texts, Reading(), LOOK, chosen(texts=texts).groups)
    assert not said[1].any() and said[0].any()


def test_a_run_asks_among_what_the_first_look_found_and_leaves_no_label_at_zero(tmp_path):
    label(TASK, TEXTS, tmp_path / "labels.db", Reading(), LOOK, nearest=chosen())
    with LabelStore.read(tmp_path / "labels.db") as store:
        run = store.runs()[-1]
        found, rows = store.candidates(run), derive(store, run).rows
    for text in TEXTS:
        own = found[text.id]
        assert NAMES.index(text.gold) in own.labels and 2 <= len(own.labels) <= 10
        assert all(math.isfinite(value) for value in own.log_prior) and own.outside > 0
    for row in rows:
        assert math.fsum(row.probs.values()) == pytest.approx(1, abs=1e-6) and min(row.probs.values()) > 0
        assert len(row.probs) == len(NAMES)


def test_after_a_stop_only_the_other_texts_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("potstill.labeler.run.label.N_LOOKED_AT", 4)
    n_groups = len(chosen().groups)
    with pytest.raises(StoppedError, match="stopped at the first look; the candidates of 4 of 10 texts are in"):
        label(TASK, TEXTS, tmp_path / "labels.db", Reading(stop_after=5 * n_groups + 2), LOOK, nearest=chosen())
    teacher = Reading()
    label(TASK, TEXTS, tmp_path / "labels.db", teacher, LOOK, nearest=chosen())
    assert {text.id for text in TEXTS[4:]} <= set(teacher.looked_at)
    assert not {text.id for text in TEXTS[:4]} & set(teacher.looked_at)
    again = Reading()
    assert label(TASK, TEXTS, tmp_path / "labels.db", again, LOOK, nearest=chosen()).n_drawn == 0 and not again.looked_at


def test_when_the_time_is_up_at_the_first_look_nothing_is_drawn_yet(tmp_path):
    report = label(TASK, TEXTS, tmp_path / "labels.db", Reading(), LOOK, nearest=chosen(), ends_at=0.0)
    assert (report.n_drawn, report.in_time) == (0, False)


def test_another_size_of_groups_is_another_run_and_none_is_the_run_without_a_look(tmp_path):
    keys = {chosen(LabelConfig(mode="direct", n_paths=2, first_look=n)).key for n in (8, 9)}
    assert len(keys) == 2


def test_without_torch_the_first_look_narrows_alone_and_says_so(monkeypatch):
    def missing():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("potstill.labeler.encoder_at_hand.check_embedding_libraries", missing)
    told = []
    found = nearest_worked_examples(TASK, TEXTS, LOOK, "all-minilm-l6-v2", told.append)
    assert found.groups and told[0].startswith("the teacher's first look alone narrows the labels, without similarity: ")
    with pytest.raises(UserError, match="the package 'torch' is not installed"):
        nearest_worked_examples(TASK, TEXTS, LabelConfig(mode="direct"), "all-minilm-l6-v2", told.append)


@pytest.mark.parametrize("n", [-1, 1])
def test_a_group_of_one_label_is_no_question(n):
    with pytest.raises(UserError, match=f"first look is {n}; it must be at least 2 labels, or 0 for similarity alone"):
        LabelConfig(first_look=n)


@pytest.mark.slow
def test_a_real_teacher_and_the_real_encoder_narrow_together(tiny_models, tmp_path):
    (tmp_path / "texts.jsonl").write_bytes(write_texts(TEXTS))
    report = label_file(
        TASK, tmp_path / "texts.jsonl", tmp_path / "out", LOOK, teacher=TeacherConfig(str(tiny_models["dense"]), threads=1)
    )
    assert len(report.rows) + len(report.gold_rows) == len(TEXTS)
