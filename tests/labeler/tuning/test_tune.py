"""Tuning finds the way to ask that is better, says honestly how good it is, and asks nothing twice."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from potstill.contract.errors import FormatError, StoppedError, UserError
from potstill.contract.task import Example, Label, Task
from potstill.contract.texts import Text
from potstill.labeler.aggregation.soft_labels import derive
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teacher import Identity, TooLong
from potstill.labeler.tuning.candidates import prompt_choices, prompt_name
from potstill.labeler.tuning.config import TuneConfig
from potstill.labeler.tuning.gold_split import GoldHalves, gold_halves
from potstill.labeler.tuning.report import as_text
from potstill.labeler.tuning.score_file import read_scores, write_scores
from potstill.labeler.tuning.tune import Tuned, tune
from potstill.labeler.tuning.wordings import WordedTask

pytestmark = pytest.mark.slow

NAMES = ["up", "down"]
GUIDELINE = "Judge the author's own view."
TASK = Task(
    format=1,
    name="t",
    question="Up or down?",
    guideline=GUIDELINE,
    labels=[Label(name="up", meaning="u"), Label(name="down", meaning="d")],
    examples=[Example(text=f"example {i}", rationale=f"Reason {i}.", label=name) for i, name in enumerate(NAMES * 3)],
)
CHAT = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
NO_ENCODER = TuneConfig(examples=("diverse",), templates=("plain",), backbone="no-such-backbone")


def texts(n: int) -> list[Text]:
    return [Text(f"text {i} is {name}", gold=name) for i, name in zip(range(n), NAMES * n, strict=False)]


def gold_file(folder: Path, rows: list[Text]) -> Path:
    file = folder / "gold.jsonl"
    file.write_text("".join(json.dumps({"text": text.text, "gold": text.gold}) + "\n" for text in rows))
    return file


def halves(folder: Path, n: int = 120) -> GoldHalves:
    return gold_halves(TASK, gold_file(folder, texts(n)))


def luck(*parts: object) -> float:
    """A number from 0 to 1 that depends on nothing but the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little") / 2**32


def answering(share_right, of=lambda prompt, path: prompt):
    """A rule: right for that share of the texts, by the prompt; what ``of`` gives decides which texts."""

    def rule(prompt: str, path: int) -> list[float]:
        text = prompt.rpartition("Text: ")[2].partition("\n")[0].partition("<")[0]
        right = luck(text, of(prompt, path)) < share_right(prompt, path)
        up = text.endswith("up") == right
        return [-0.3, -1.4] if up else [-1.4, -0.3]

    return rule


def tuned(tmp_path: Path, teacher, config: TuneConfig = NO_ENCODER, n: int = 120) -> Tuned:
    return tune(TASK, halves(tmp_path, n), tmp_path / "out", teacher, config)


def test_a_teacher_that_is_better_without_guideline_is_found_out(ruled_teacher, tmp_path: Path):
    teacher = ruled_teacher(answering(lambda prompt, path: 0.6 if GUIDELINE in prompt else 0.95))
    found = tuned(tmp_path, teacher)
    assert found.choice.winner.config.guideline is False
    assert {trial.config.guideline for trial in found.trials if trial.group.startswith("answers")} == {False}
    assert np.mean(found.choice.winner.probs[found.judges].argmax(axis=1) == found.halves.gold[found.judges]) > 0.85


def test_a_teacher_that_is_better_in_its_chat_template_is_found_out(ruled_teacher, tmp_path: Path):
    teacher = ruled_teacher(answering(lambda prompt, path: 0.95 if "<user>" in prompt else 0.6), CHAT)
    assert tuned(tmp_path, teacher, replace(NO_ENCODER, templates=("plain", "chat"))).choice.winner.config.template == "chat"


def test_a_teacher_that_must_reason_first_is_found_out(ruled_teacher, tmp_path: Path):
    teacher = ruled_teacher(answering(lambda prompt, path: 0.95 if prompt.endswith("Opinion:") else 0.6))
    assert tuned(tmp_path, teacher).choice.winner.config.mode == "cot"


@pytest.mark.parametrize(
    ("of", "n_paths"),
    [(lambda prompt, path: "", {1}), (lambda prompt, path: path, {4, 8})],
    ids=["paths that err alike", "paths that err apart"],
)
def test_more_paths_are_chosen_only_where_they_help(ruled_teacher, tmp_path: Path, of, n_paths):
    teacher = ruled_teacher(answering(lambda prompt, path: 0.7, of))
    found = tuned(tmp_path, teacher, replace(NO_ENCODER, cot=False))
    assert found.choice.winner.config.n_paths in n_paths


def test_examples_are_chosen_by_similarity_where_that_helps_and_neighbours_are_tried(ruled_teacher, tmp_path: Path):
    """The teacher is right about a text that was shown examples of its own kind."""
    kinds = {
        "food": ["bread and butter", "milk and cheese", "apples", "ham", "noodles", "soup", "rice", "cake", "salad", "beans"],
        "sky": [
            "stars and planets",
            "moons and comets",
            "galaxies",
            "suns",
            "asteroids",
            "orbits",
            "Mars",
            "Venus",
            "Saturn",
            "Pluto",
        ],
    }
    task = msgspec.structs.replace(
        TASK,
        guideline="",
        examples=[Example(text=noun, rationale="r", label=name) for nouns in kinds.values() for noun, name in zip(nouns, NAMES)],
    )
    rows = [Text(f"{noun} are {name}", gold=name) for nouns in kinds.values() for noun in nouns[2:] for name in NAMES]

    def share_right(prompt: str, path: int) -> float:
        *shown, text = [
            kind for block in prompt.split("\n\n")[1:] for kind, nouns in kinds.items() if any(n in block for n in nouns)
        ]
        return 1.0 if set(shown) == {text} else 0.3

    found = tune(
        task,
        gold_halves(task, gold_file(tmp_path, rows)),
        tmp_path / "out",
        ruled_teacher(answering(share_right)),
        TuneConfig(templates=("plain",), cot=False, n_examples_per_label=1),
    )
    assert found.choice.winner.config.examples == "nearest"
    assert any(trial.derive.smooth for trial in found.trials)


def test_what_is_tried_differs(ruled_teacher):
    def names(task: Task = TASK, chat: str = "", similar: bool = True, **config):
        identity = Identity("rule", "d", "d", "b", chat)
        found, left_out = prompt_choices(task, TuneConfig(**config), identity, similar=similar)
        return [prompt_name(prompt) for prompt in found], left_out

    both = ["plain, guideline, {}", "plain, no guideline, {}"]
    no_chat = ["template chat: the teacher has no chat template of its own"]
    every = [line.format(name) for name in ("given", "diverse", "nearest") for line in both]
    assert names() == (every, no_chat)
    assert names(similar=False) == (every[:4], no_chat)
    assert names(n_examples_per_label=3) == (every[2:], no_chat)  # no label has more, so given is as diverse
    assert names(n_examples_per_label=3, examples=("given",), templates=("plain",)) == (every[:2], [])
    chats = [line.replace("plain", "chat") for line in every[:4]]
    assert names(chat=CHAT, similar=False) == (every[:4] + chats, [])
    no_guideline = msgspec.structs.replace(TASK, guideline=" ")
    assert names(no_guideline, templates=("plain",), examples=("diverse",)) == (["plain, guideline, diverse"], [])
    with pytest.raises(
        UserError, match="nothing is left to try: examples nearest needs template plain and an encoder; template chat"
    ):
        names(examples=("nearest",), templates=("chat",))
    with pytest.raises(UserError, match="examples per label is 0; it must be at least 1"):
        names(n_examples_per_label=0)


SEVENTY = answering(lambda prompt, path: 0.7)


@pytest.fixture(scope="module")
def unbroken(ruled_teacher, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuned, int]:
    """What is found without a stop, and how many paths it takes."""
    teacher = ruled_teacher(SEVENTY)
    return tuned(tmp_path_factory.mktemp("unbroken"), teacher, n=60), len(teacher.asked)


@pytest.mark.parametrize("stop_after", [0, 100, 700])
def test_stopped_and_called_again_it_asks_nothing_twice_and_finds_the_same(ruled_teacher, tmp_path: Path, unbroken, stop_after):
    wanted, n_wanted = unbroken

    def stopping(prompt: str, path: int):
        if len(first.asked) > stop_after:
            first.asked.pop()
            raise KeyboardInterrupt
        return SEVENTY(prompt, path)

    first, second, third = ruled_teacher(stopping), ruled_teacher(SEVENTY), ruled_teacher(SEVENTY)
    with pytest.raises(StoppedError):
        tuned(tmp_path, first, n=60)
    found = tuned(tmp_path, second, n=60)
    assert len(first.asked) == stop_after
    assert len(first.asked) + len(second.asked) == n_wanted
    times = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert len(times) == 4  # two prompts, more of one of them, and rationales: also the run that was stopped
    again = tuned(tmp_path, third, n=60)
    assert not third.asked
    for one, two, three in zip(wanted.trials, found.trials, again.trials, strict=True):
        assert (one.name, one.config, one.derive) == (two.name, two.config, two.derive) == (three.name, three.config, three.derive)
        np.testing.assert_array_equal(one.probs, two.probs)
        np.testing.assert_array_equal(one.probs, three.probs)
        assert two.seconds == three.seconds
    assert again.choice.winner.name == found.choice.winner.name


def test_the_first_paths_and_the_cascade_are_what_a_run_of_their_own_would_draw(ruled_teacher, tmp_path: Path):
    rule = answering(lambda prompt, path: 0.6)
    found = tuned(tmp_path, ruled_teacher(rule))
    checked = set()
    for trial in found.trials:
        if trial.derive.method == "affine":  # which knows one half of the gold labels here and all of them there
            continue
        store_path = tmp_path / f"{trial.config.mode} {trial.config.n_paths} {trial.config.guideline}.db"
        report = label(TASK, found.halves.texts, store_path, ruled_teacher(rule), replace(trial.config, new_run=True))
        with LabelStore.read(store_path) as store:
            rows = derive(store, report.run, trial.derive, [text.id for text in found.halves.texts]).rows
        np.testing.assert_allclose([list(row.probs.values()) for row in rows], trial.probs, atol=1e-9)
        assert sum(row.n_paths for row in rows) == len(trial.paths)
        checked.add((trial.config.mode, trial.config.n_paths))
    assert checked == {("cascade", 8), *((mode, n) for mode in ("direct", "cot") for n in (1, 2, 4, 8))}


def test_the_gold_labels_of_the_half_that_judges_change_nothing_but_its_scores(ruled_teacher, tmp_path: Path):
    teacher = ruled_teacher(answering(lambda prompt, path: 0.7))
    before = tuned(tmp_path, teacher)
    honest = before.halves
    turned = replace(honest, gold=np.where(honest.chooses, honest.gold, 1 - honest.gold))
    after = tune(TASK, turned, tmp_path / "out", teacher, NO_ENCODER)
    assert any(trial.derive.method == "affine" for trial in before.trials)
    assert after.choice.scores == before.choice.scores
    for one, two in zip(before.trials, after.trials, strict=True):
        np.testing.assert_array_equal(one.probs, two.probs)


def test_texts_that_do_not_fit_count_nowhere_and_a_prompt_that_fits_few_is_no_candidate(ruled_teacher, tmp_path: Path):
    class Short(ruled_teacher):
        """Its context holds no guideline beside most texts, and never text 7."""

        def answer(self, prefix, variant, requests, spec, run_seed, enough=lambda _: False):
            fits = [
                request
                for request in requests
                if "text 7 " not in request.prompt and not (GUIDELINE in prefix and "1" in request.prompt)
            ]
            yield from (TooLong(request.text_id, 9, 1) for request in requests if request not in fits)
            yield from super().answer(prefix, variant, fits, spec, run_seed, enough)

    found = tuned(tmp_path, Short(answering(lambda prompt, path: 0.8)))
    assert not any(trial.config.guideline for trial in found.trials)
    assert [text.text for text, counts in zip(found.halves.texts, found.answered, strict=True) if not counts] == ["text 7 is down"]
    n = sum("1" in text.text or "text 7 " in text.text for text in found.halves.texts)
    assert f"left out: plain, guideline, diverse: {n} of 120 texts do not fit in the teacher's context" in found.notes
    assert "1 texts do not fit in the teacher's context with some prompt, and are not scored" in found.notes


def test_a_teacher_that_no_text_fits_is_told(ruled_teacher, tmp_path: Path):
    class Shorter(ruled_teacher):
        """Its context holds nothing."""

        def answer(self, prefix, variant, requests, spec, run_seed, enough=lambda _: False):
            yield from (TooLong(request.text_id, 9, 1) for request in requests)

    problem = "guideline, diverse: 120 of 120 texts do not fit in the teacher's context"
    with pytest.raises(UserError) as caught:
        tuned(tmp_path, Shorter(answering(lambda prompt, path: 0.8)))
    assert str(caught.value) == f"nothing can be compared: plain, {problem}; plain, no {problem}"


def test_the_table_is_readable_at_100_columns_and_marks_the_winner(ruled_teacher, tmp_path: Path):
    found = tuned(
        tmp_path, ruled_teacher(answering(lambda prompt, path: 0.7), CHAT), replace(NO_ENCODER, templates=("plain", "chat")), n=40
    )
    lines = as_text(found).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("* ") for line in lines) in (2, 3)  # its row, the same row among the prompts, and below
    assert lines[0] == "note: 40 gold texts are few: half of them select, so two or three texts decide; use 50 or more"
    assert lines[1].startswith("note: left out: examples nearest and smoothing: 'no-such-backbone' is neither a file nor a known")
    assert any(line.startswith("  on the 20 held-out texts: macro-F1 0.") for line in lines)


def test_the_better_wording_is_found_out_and_tuned_further(ruled_teacher, tmp_path: Path):
    better = msgspec.structs.replace(TASK, guideline="Look at the last word.")
    worse = msgspec.structs.replace(TASK, question="What is it?")
    wordings = [
        WordedTask("better.toml", better, tmp_path / "better.toml"),
        WordedTask("worse.toml", worse, tmp_path / "worse.toml"),
    ]
    teacher = ruled_teacher(answering(lambda prompt, path: 0.95 if "Look at the last word." in prompt else 0.6))
    said: list[str] = []
    found = tune(TASK, halves(tmp_path), tmp_path / "out", teacher, NO_ENCODER, tell=said.append, wordings=wordings)
    assert said[:3] == [
        "trying wording 1 of 3: the task as given",
        "trying wording 2 of 3: better.toml",
        "trying wording 3 of 3: worse.toml",
    ]
    assert found.choice.winner.wording == wordings[0]
    later = [trial for trial in found.trials if not trial.group.startswith("wordings")]
    assert len(later) > 5 and all(trial.wording == wordings[0] for trial in later)
    assert "* better.toml; direct, " in as_text(found)
    write_scores(tmp_path / "tuned.json", found, "some teacher")
    scores = read_scores(tmp_path)
    assert scores.task_digest == better.digest  # so that a plan for the other wording does not take these
    assert len(scores.ways) == len(later) + 1


def test_the_task_stays_as_it_is_where_no_wording_is_better(ruled_teacher, tmp_path: Path):
    other = WordedTask("other.toml", msgspec.structs.replace(TASK, guideline="Guess."), tmp_path / "other.toml")
    teacher = ruled_teacher(answering(lambda prompt, path: 0.6 if "Guess." in prompt else 0.95))
    found = tune(TASK, halves(tmp_path), tmp_path / "out", teacher, NO_ENCODER, wordings=[other])
    assert found.choice.winner.wording is None


def test_wordings_of_a_task_with_many_labels_are_refused(ruled_teacher, tmp_path: Path):
    many = msgspec.structs.replace(TASK, labels=[Label(name=f"label {i}") for i in range(30)], examples=[])
    wording = WordedTask("other.toml", many, tmp_path / "other.toml")
    with pytest.raises(UserError, match="the task has 30 labels, of which each text is asked among a few, and wordings"):
        tune(
            many, halves(tmp_path), tmp_path / "out", ruled_teacher(lambda prompt, path: [0.0] * 30), NO_ENCODER, wordings=[wording]
        )


def test_a_damaged_file_of_times_is_named(ruled_teacher, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tune.json").write_text('{"a": 1}')
    with pytest.raises(FormatError) as caught:
        tuned(tmp_path, ruled_teacher(answering(lambda prompt, path: 0.7)))
    assert str(caught.value) == (
        f"{tmp_path}/out/tune.json: is damaged (Expected `object`, got `int` - at `$[...]`); delete it: only measured times are lost"
    )
