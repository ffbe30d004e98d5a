"""A plan measures the teachers that are here, estimates those that are not, and its command does what it says."""

import json
import time

import msgspec
import pytest
from support.small_task import SMALL_TASK

import potstill
from potstill.commands.main import run as console
from potstill.contract.errors import FormatError, UserError
from potstill.contract.scores.record import Score
from potstill.contract.task import load_task
from potstill.labeler.config import LabelConfig, PlanConfig
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.tuning.score_file import SCORES_FILE, TriedWay, TunedScores, by_score, prompt_of, read_scores, score_of
from potstill.workflows import planning
from potstill.workflows.planning import plan

pytestmark = pytest.mark.slow

QUICK = PlanConfig(hours=0.01, measure_s=2.0)


@pytest.fixture
def files(tmp_path, monkeypatch, ruled_teacher):
    """A task and texts, and a teacher that answers at a steady pace under every name."""

    def answering(prompt, path):
        time.sleep(0.002)
        return (-0.1, -2.4)

    opened = []

    def open_teacher(name, **options):
        opened.append(name)
        return ruled_teacher(answering)

    monkeypatch.setattr("potstill.workflows.teacher.open_teacher", open_teacher)
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    lines = [json.dumps({"id": str(i), "text": f"text number {i}"}) for i in range(300)] + [
        json.dumps({"id": "copy", "text": "Text  number 1"})
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    return tmp_path / "task.toml", tmp_path / "texts.jsonl", opened


def test_one_row_a_mode_for_a_teacher_that_is_here_and_estimates_for_those_that_are_not(files):
    task, texts, opened = files
    found = plan(task, texts, QUICK)
    assert opened == ["smollm2-135m-instruct"]
    own = [row for row in found.rows if row.teacher == opened[0]]
    assert [row.config.mode for row in own] == ["direct", "cot", "cascade"]
    assert {row.known for row in own} == {"measured"}
    others = [row for row in found.rows if row.teacher != opened[0]]
    assert others and {row.known for row in others} == {"estimate"}
    assert all(any(row.teacher in note for note in found.notes) for row in others)
    by_size = sorted(others, key=lambda row: row.size_mb)
    direct = [row for row in by_size if row.config.mode == "direct"]
    assert direct[0].n_texts >= direct[-1].n_texts
    assert found.n_texts == 300  # the copy counts once
    assert found.best in own and found.best.n_texts


def test_embedding_the_texts_to_refine_their_labels_has_a_line_of_its_own(files):
    task, texts, _ = files
    lines = []
    found = plan(task, texts, PlanConfig(hours=0.05, measure_s=2.0), LabelConfig(mode="direct"), tell=lines.append)
    assert found.best.n_texts >= 200 and "measuring how fast all-minilm-l6-v2 embeds texts" in lines
    assert found.refining.text_s > 0
    assert found.refining_s == found.refining.start_s + found.best.n_texts * found.refining.text_s
    [line] = [line for line in found.as_text().splitlines() if "to embed" in line]
    assert line.startswith("  and then ") and line.endswith(" ms a text),")
    assert json.loads(found.as_json())["refining_seconds"] == found.refining_s


def test_labels_that_will_not_be_refined_cost_no_embedding(files, tmp_path):
    task, texts, _ = files
    (tmp_path / "few.jsonl").write_text("\n".join(texts.read_text().splitlines()[:100]))
    found = plan(task, tmp_path / "few.jsonl", QUICK, LabelConfig(mode="direct"))
    assert found.refining is None and found.refining_s == 0 and "to embed" not in found.as_text()


def test_memory_leaves_out_what_does_not_fit(files, monkeypatch):
    task, texts, _ = files
    monkeypatch.setattr(planning, "free_memory_bytes", lambda: 2_500_000_000)
    found = plan(task, texts, QUICK)
    assert any("bytes" not in note and "of memory, and 2500 MB are free" in note for note in found.notes)
    assert max(row.size_mb for row in found.rows) < 2500


def test_a_teacher_too_slow_to_be_measured_is_estimated(files, monkeypatch):
    task, texts, opened = files
    monkeypatch.setattr(planning, "_LEAST_TEXTS", 10**6)
    candidates = [planning._Candidate(TeacherConfig(name), size, 0, True) for name, size in (("small", 100), ("large", 1000))]
    monkeypatch.setattr(planning, "_candidates", lambda *_: candidates)
    found = plan(task, texts, QUICK)
    assert opened == ["small"]
    assert {row.known for row in found.rows if row.teacher == "large"} == {"estimate"}
    assert "large is too slow to be measured in 1 s: its pace is that of a smaller one times the size of the weights" in found.notes


def test_the_table_fits_a_terminal_and_its_command_labels_what_was_planned(files, capsys):
    task, texts, _ = files
    texts.write_text("".join(json.dumps({"text": f"another text {i}"}) + "\n" for i in range(5000)))  # more than 3.6 s can label
    assert (
        console(
            [
                "plan",
                str(task),
                str(texts),
                "--hours",
                "0.001",
                "--teacher",
                "http://127.0.0.1:9/v1",
                "--mode",
                "direct",
                "--measure",
                "2",
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert all(len(line) <= 100 for line in shown.splitlines() if not line.lstrip().startswith(("potstill label", "note:")))
    command = next(line for line in shown.splitlines() if "potstill label" in line).split()
    assert command[:6] == ["potstill", "label", str(task), str(texts), "out", "--hours"]
    out = texts.parent / "out"
    command[4] = str(out)
    began = time.monotonic()
    assert console(command[1:]) == 0
    assert time.monotonic() - began < 0.001 * 3600 + 4  # what cannot be cut short, on a machine that does other things, too
    told = capsys.readouterr().out
    assert "texts were reached; the same command goes on with the others" in told
    assert (out / "soft_labels.parquet").is_file()


def test_a_task_of_several_questions_is_planned_as_it_is_asked(tmp_path, tiny_models, capsys):
    (tmp_path / "task.toml").write_text(
        'format = 2\nname = "two"\n'
        '[[questions]]\nname = "stance"\nquestion = "Up?"\nlabels = [{ name = "rise" }, { name = "fall" }]\n'
        '[[questions]]\nname = "topics"\nkind = "tags"\nquestion = "Does it mention {tag}?"\nlabels = [{ name = "news" }]\n'
    )
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(200)))
    words = ["plan", str(tmp_path / "task.toml"), str(tmp_path / "texts.jsonl"), "--hours", "0.1", "--measure", "3"]
    assert console([*words, "--teacher", str(tiny_models["dense"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["mode"] for row in found["rows"]] == ["direct", "cot"]
    assert all(row["n_texts"] == 200 and row["known"] == "measured" for row in found["rows"])
    assert "times are of all 2 questions and tags together, and paths are of each" in found["notes"]
    assert "mode cascade asks each question by itself; to plan it: --mode cascade" in found["notes"]


def test_as_json_it_is_one_object(files, capsys):
    task, texts, _ = files
    assert (
        console(["plan", str(task), str(texts), "--hours", "0.01", "--measure", "1", "--mode", "direct", "--paths", "3", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert {row["n_paths"] for row in found["rows"]} == {3} and {row["mode"] for row in found["rows"]} == {"direct"}
    assert sum(row["recommended"] for row in found["rows"]) == 1


# Scores of tuning


@pytest.fixture
def tuned(files):
    """A folder as `potstill task tune` writes it, without the work."""
    folder = files[1].parent / "tuning"
    folder.mkdir()

    def way(f1, **settings):
        usual = {"mode": "direct", "n_paths": 8, "template": "plain", "guideline": False, "examples": "given"}
        return TriedWay(settings={**usual, **settings}, macro_f1=Score(value=f1, low=f1 - 0.05, high=f1 + 0.05, n=100), seconds=0.5)

    ways = [way(0.5), way(0.55, n_paths=4), way(0.61, mode="cot"), way(0.3, n_paths=4, method="affine")]
    scores = TunedScores(
        format=1,
        teacher="smollm2-135m-instruct",
        teacher_digest="d",
        task_digest=load_task(files[0]).digest,
        chosen=ways[2].settings,
        ways=ways,
    )

    (folder / SCORES_FILE).write_bytes(msgspec.json.encode(scores))
    return folder


def test_scores_are_found_by_mode_prompt_and_paths(tuned):
    scores = read_scores(tuned)
    prompt = prompt_of(scores, LabelConfig())
    assert (prompt.guideline, prompt.examples, prompt.mode) == (False, "given", "auto")
    four, eight = (LabelConfig(mode="direct", n_paths=n, guideline=False, examples="given") for n in (4, 8))
    assert (score_of(scores, four).value, score_of(scores, eight).value) == (0.55, 0.5)
    assert score_of(scores, LabelConfig(mode="direct")) is None  # another prompt
    assert by_score([eight, four], scores) == [four, eight]


def test_a_plan_shows_expected_scores_and_recommends_by_them(files, tuned):
    task, texts, _ = files
    found = plan(task, texts, PlanConfig(hours=1, measure_s=2), tuned=[tuned], teachers=[TeacherConfig()])
    assert {row.config.mode: row.macro_f1 and row.macro_f1.value for row in found.rows} == {
        "direct": 0.55,
        "cot": 0.61,
        "cascade": None,
    }
    assert found.best.config.mode == "cot"
    assert "--no-guideline --examples given" in found.command


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; make it with: potstill task tune"),
        (b"{}", "missing required field"),
        (
            b'{"format": 2, "teacher": "t", "teacher_digest": "", "task_digest": "", "chosen": {}, "ways": []}',
            "format: is 2; this version reads 1",
        ),
    ],
)
def test_scores_that_cannot_be_read_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / SCORES_FILE).write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"), [({"hours": 0}, "hours is 0"), ({"hours": 1, "measure_s": -1}, "measure seconds is -1")]
)
def test_a_time_in_which_nothing_can_be_done_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        PlanConfig(**values)


def test_hours_of_a_run_must_be_above_nothing_and_not_deterministic(files):
    task, texts, _ = files
    with pytest.raises(UserError, match="hours is 0; it must be above 0, and may be a fraction"):
        potstill.label(task, texts, texts.parent / "out", hours=0.0)
    with pytest.raises(UserError, match="leave out --hours or --deterministic"):
        potstill.label(task, texts, texts.parent / "out", LabelConfig(deterministic=True), hours=1.0)


def test_within_hours_gold_texts_are_reached_too_and_a_second_command_goes_on(files):
    task, texts, _ = files
    gold = texts.parent / "gold.jsonl"
    gold.write_text("".join(json.dumps({"id": f"g{i}", "text": f"gold {i}", "gold": "up"}) + "\n" for i in range(100)))
    config, out = LabelConfig(mode="direct", n_paths=2), texts.parent / "out"
    first = potstill.label(task, texts, out, config, gold=gold, hours=1.0 / 3600)
    assert first.rows and first.gold_rows and len(first.rows) + len(first.gold_rows) < 400
    assert abs(len(first.gold_rows) / first.labels.n_texts - 0.25) < 0.1
    last = potstill.label(task, texts, out, config, gold=gold, hours=1.0)
    assert len(last.rows) == 300 and len(last.gold_rows) == 100  # all but the copy
    assert "left out 1 copies of other texts" in last.as_text() and "were reached" not in last.as_text()
    assert last.labels.n_drawn == 800 - first.labels.n_paths
