"""A whole run among candidates, by a teacher with rules: what is asked, stored, resumed, derived and reported."""

import sqlite3

import numpy as np
import pytest
from support.teachers.many_labels import NAMES, TASK, TEXTS, made_up

from potstill.contract.errors import FormatError, UserError
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.task import Example
from potstill.contract.texts import Text, write_texts
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.aggregation.summary import summary
from potstill.labeler.aggregation.summary_text import as_text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import Nearest, prompt_variants, prompts_digest
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.store.integrity import check_store
from potstill.labeler.teacher import NOT_ASKED, Identity, TeacherPath, path_seed
from potstill.labeler.teachers.config import TeacherConfig
from potstill.workflows.labelling import label as label_file

DIRECT = LabelConfig(mode="direct", n_paths=3)
PLAIN = Identity("rule", "d", "d", "build 1")


def chosen(n_candidates=10, key="k") -> Nearest:
    found = made_up(n_candidates=n_candidates)
    examples = {
        text_id: tuple(Example(text=f"as {NAMES[place]}", label=NAMES[place]) for place in reversed(own.labels))
        for text_id, own in found.items()
    }
    return Nearest(examples, key, found)


class Knowing:
    """Gives the gold label of a text most of what it says, if the label is among those that it is asked."""

    identity = PLAIN

    def __init__(self, stop_after=10**9):
        self.words: dict[str, tuple[int, ...]] = {}
        self.left = stop_after

    def answer(self, prefix, variant, requests, spec, run_seed, enough=None):
        for request in requests:
            self.words[request.text_id] = request.words
            for path in request.paths:
                if not self.left:
                    raise UserError("enough")
                self.left -= 1
                values = [NOT_ASKED] * len(spec.words)
                for place in request.words:
                    values[place] = -1.0 if place == int(request.text_id) else -9.0
                seed = path_seed(run_seed, request.text_id, path)
                yield TeacherPath(request.text_id, path, variant, seed, "", tuple(values), 9, 0)

    def close(self):
        pass


@pytest.fixture
def done(tmp_path):
    """A finished run: its store, open to read, and the run."""
    report = label(TASK, TEXTS, tmp_path / "labels.db", Knowing(), DIRECT, nearest=chosen())
    with LabelStore.read(tmp_path / "labels.db") as store:
        yield store, report.run


def test_only_the_candidates_words_are_asked_and_only_they_have_numbers(done, tmp_path):
    store, run = done
    assert run.settings.candidates == 10
    assert run.settings.words[:2] == ["card lost", "card blocked"]
    for path in store.paths(run):
        asked = {place for place, value in enumerate(path.word_logprobs) if value != NOT_ASKED}
        assert asked == set(made_up()[path.text_id].labels)
    assert check_store(store).faults == []


def test_soft_labels_follow_the_teacher_and_leave_no_label_without_a_probability(done):
    rows = derive(*done).rows
    for row in rows:
        assert max(row.probs, key=row.probs.get) == row.gold
        assert min(row.probs.values()) > 0
        assert sum(row.probs.values()) == pytest.approx(1)
        assert row.method == "calibrated+among10"


@pytest.mark.parametrize("method", ["votes", "mean", "majority", "matched"])
def test_every_method_takes_a_run_among_candidates(done, method):
    prior = dict.fromkeys(NAMES, 1 / len(NAMES)) if method == "matched" else None
    rows = derive(*done, DeriveConfig(method=method, prior=prior)).rows
    assert [max(row.probs, key=row.probs.get) for row in rows] == [row.gold for row in rows]


def test_stated_shares_move_what_was_believed_before(done):
    shares = dict.fromkeys(NAMES, 0.5 / (len(NAMES) - 1)) | {NAMES[1]: 0.5}
    plain, moved = (derive(*done, DeriveConfig(prior=prior)).rows for prior in (None, shares))
    assert sum(row.probs[NAMES[1]] for row in moved) > 2 * sum(row.probs[NAMES[1]] for row in plain)


def test_the_summary_says_how_good_the_candidates_were(done):
    found = summary(*done, DeriveConfig())
    row = found.narrowing
    assert (row.recall.value, row.first_right.value, row.first_kept) == (1.0, 1.0, 1.0)
    assert row.recall.n == len(TEXTS)
    assert "each text was asked among at most 10 of 30 labels" in as_text(found)
    assert "the gold label is a candidate: 1.000 1.000-1.000" in as_text(found)


def test_a_gold_label_that_was_not_offered_counts_against_the_recall(tmp_path):
    texts = [type(text)(text.text, text.id, gold=NAMES[29] if text.id == "0" else text.gold) for text in TEXTS]
    label(TASK, texts, tmp_path / "labels.db", Knowing(), DIRECT, nearest=chosen())
    with LabelStore.read(tmp_path / "labels.db") as store:
        assert summary(store, store.find_run(None), DeriveConfig()).narrowing.recall.value == pytest.approx(0.9)


def test_a_stopped_run_goes_on_with_the_candidates_that_it_began_with(tmp_path):
    with pytest.raises(UserError, match="enough"):
        label(TASK, TEXTS, tmp_path / "labels.db", Knowing(stop_after=4), DIRECT, nearest=chosen())
    other = chosen()
    moved = {text_id: type(own)((29, 28), own.log_prior) for text_id, own in other.candidates.items()}
    teacher = Knowing()
    report = label(TASK, TEXTS, tmp_path / "labels.db", teacher, DIRECT, nearest=Nearest(other.examples, "k", moved))
    assert report.run.number == 1 and report.n_paths == 3 * len(TEXTS)
    assert all(29 not in words or text_id == "27" for text_id, words in teacher.words.items())


def test_another_number_of_candidates_is_another_run(tmp_path):
    label(TASK, TEXTS, tmp_path / "labels.db", Knowing(), DIRECT, nearest=chosen())
    config = LabelConfig(mode="direct", n_paths=3, candidates=5)
    with pytest.raises(UserError, match="was labelled with another prompt digest, candidates"):
        label(TASK, TEXTS, tmp_path / "labels.db", Knowing(), config, nearest=chosen(5, "other"))


def test_a_run_that_asks_about_all_labels_makes_no_table(tmp_path):
    config = LabelConfig(mode="direct", n_paths=1, candidates=0)
    label(TASK, TEXTS, tmp_path / "labels.db", Everything(), config)
    with sqlite3.connect(tmp_path / "labels.db") as connection:
        tables = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    connection.close()
    assert tables == {"runs", "texts", "paths", "too_long"}
    with LabelStore.read(tmp_path / "labels.db") as store:
        run = store.find_run(None)
        assert "candidates" not in store.query("select settings from runs")[0][0]
        assert store.candidates(run) == {} and summary(store, run, DeriveConfig()).narrowing is None


class Everything(Knowing):
    """Is asked about every label."""

    def answer(self, prefix, variant, requests, spec, run_seed, enough=None):
        for request in requests:
            assert request.words == ()
            yield TeacherPath(request.text_id, request.paths[0], variant, 0, "", (-3.0,) * len(spec.words), 9, 0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("delete from candidates where text_id = '3'", "1 text has paths and no candidates"),
        ("update candidates set labels = '[99]' where text_id = '3'", "candidates of text '3': are damaged"),
        ("update paths set word_logprobs = replace(word_logprobs, '-1.0', 'null') where path = 0", ""),
        (
            "update paths set word_logprobs = replace(replace(word_logprobs, '-1.0', 'null'), '-9.0', 'null') where path = 0",
            "asked about no label",
        ),
    ],
)
def test_damaged_candidates_are_found(tmp_path, change, fault):
    label(TASK, TEXTS, tmp_path / "labels.db", Knowing(), DIRECT, nearest=chosen())
    with sqlite3.connect(tmp_path / "labels.db") as connection:
        connection.execute(change)
    connection.close()
    with LabelStore.read(tmp_path / "labels.db") as store:
        faults = check_store(store).faults
        assert [fault in line for line in faults] == [True] * bool(fault)
        if "candidates" in fault:
            with pytest.raises(FormatError, match="candidates"):
                derive(store, store.find_run(None))


# What a teacher reads


def variants(config=DIRECT, identity=PLAIN, found=None):
    return prompt_variants(TASK, config, identity, found or chosen())


def test_the_shared_part_names_no_label_and_the_texts_part_shows_its_candidates_the_likeliest_last():
    first, second, third = variants()
    assert first.prefix == "Of a bank.\nWhat is it?\n\n"
    blocks = first.prompt(TEXTS[2]).split("\n\n")
    labels = [NAMES[place].replace("_", " ") for place in made_up()["6"].labels]
    assert [block.rpartition("Answer: ")[2] for block in blocks[:-1]] == labels[::-1]
    assert blocks[-1] == f"Text: {TEXTS[2].text}\nAnswer:"
    assert second.prompt(TEXTS[2]).split("\n\n")[:-1] == blocks[-2::-1]
    assert sorted(third.prompt(TEXTS[2]).split("\n\n")[:-1]) == sorted(blocks[:-1])
    assert third.prompt(TEXTS[2]) == variants()[2].prompt(TEXTS[2])


def test_a_teacher_that_reasons_is_shown_the_answers_where_examples_have_no_rationale():
    (variant,) = variants(LabelConfig(mode="cot", n_paths=2))
    offer, block = variant.prompt(TEXTS[0]).split("\n\n")
    assert offer.startswith("Possible answers:\n") and offer.endswith("\n- card lost: the card is lost")
    assert block == f"Text: {TEXTS[0].text}\nOpinion:"


def test_a_server_that_converses_reads_the_answers_in_the_turn_and_one_that_decides_in_its_options():
    chat = variants(identity=Identity("m", "d", "d", "b", api="chat"))[0]
    assert "card lost" not in "".join(message.content for message in chat.spec.messages)
    assert chat.prompt(TEXTS[0]).startswith("Possible answers:\n- ")
    deciding = variants(identity=Identity("m", "d", "d", "b", api="decisions"))[0]
    request = deciding.request(TEXTS[0], (0,))
    assert request.prompt == f"Text: {TEXTS[0].text}"
    assert {deciding.spec.words[place] for place in request.words} == {NAMES[i].replace("_", " ") for i in made_up()["0"].labels}


def test_what_finds_no_candidates_is_told_what_to_do():
    with pytest.raises(
        UserError, match="has 30 labels, of which each text is asked among at most 10.*use potstill label, or candidates 0"
    ):
        prompt_variants(TASK, DIRECT, PLAIN)
    assert len(prompt_variants(TASK, LabelConfig(mode="direct", candidates=0), PLAIN)) == 8


def test_another_encoder_makes_another_run():
    assert prompts_digest(variants(found=chosen(key="a"))) != prompts_digest(variants(found=chosen(key="b")))
    np.testing.assert_array_equal([len(v.paths) for v in variants()], 1)


@pytest.mark.slow
def test_the_real_teacher_and_the_real_encoder_label_texts_that_name_their_label(tmp_path):
    config = LabelConfig(mode="direct", n_paths=2)
    texts = tmp_path / "texts.jsonl"
    texts.write_bytes(write_texts([Text(text.text, text.id) for text in TEXTS]))
    label_file(TASK, texts, tmp_path / "out", config, teacher=TeacherConfig(threads=1))
    rows = {row.id: row for row in read_soft_labels(tmp_path / "out" / "soft_labels.parquet")}
    right = [max(rows[text.id].probs, key=rows[text.id].probs.get) == text.gold for text in TEXTS]
    assert sum(right) >= 8
    assert all(row.label_mass > 0 and min(row.probs.values()) > 0 for row in rows.values())
    with LabelStore.read(tmp_path / "out" / "labels.db") as store:
        assert check_store(store).faults == []
