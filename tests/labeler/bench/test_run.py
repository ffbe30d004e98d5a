from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support.small_task import SMALL_TASK

from potstill.commands.main import run as console
from potstill.contract.task import load_task
from potstill.contract.texts import read_texts
from potstill.labeler.bench.adaptive_saving import measure_saving
from potstill.labeler.bench.config import LabelBenchConfig
from potstill.labeler.bench.memory import measure_memory
from potstill.labeler.bench.report import Figures, LabelBenchReport
from potstill.labeler.bench.run import bench
from potstill.labeler.bench.turns import Turn
from potstill.labeler.config import LabelConfig, LocalConfig
from potstill.labeler.teachers.opening import open_local

pytestmark = pytest.mark.slow

KEYS = [
    "loop_s_per_text",
    "engine_s_per_text",
    "speedup",
    "speedup_same_file",
    "speedup_server",
    "adaptive_paths_saved",
    "direct_speedup",
    "efficiency",
    "rss_over_mb",
    "n",
    "n_paths",
    "threads",
    "tokens_per_s",
]

TEACHER = "smollm2-135m-instruct"
STATED = LocalConfig(n_batch=512, n_live_paths=16, flash_attention=False)  # so that nothing is measured first


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """A task with a short prompt, two texts and two with gold."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "task.toml").write_text(SMALL_TASK)
    (folder / "texts.jsonl").write_text('{"text": "Loaded up on calls."}\n{"text": "Dead money, sold it all before the print."}\n')
    (folder / "gold.jsonl").write_text('{"text": "All in.", "gold": "up"}\n{"text": "I am out.", "gold": "down"}\n')
    return folder


@pytest.fixture(scope="module")
def report(example, tiny_models) -> LabelBenchReport:
    parts, tiny = ("loop", "same_file", "direct", "efficiency"), str(tiny_models["dense"])
    return bench(example, LabelBenchConfig(n=2, n_paths=2, n_per_turn=1, parts=parts, threads=2, teacher=tiny, local=STATED))


def test_the_figures_have_the_agreed_keys(report):
    assert list(json.loads(msgspec.json.encode(report.figures))) == KEYS == list(Figures.__struct_fields__)


def test_what_was_left_out_is_null_and_what_was_measured_is_not(report):
    found = json.loads(msgspec.json.encode(report.figures))
    assert {key for key in KEYS if found[key] is None} == {
        "engine_s_per_text",
        "speedup",
        "speedup_server",
        "adaptive_paths_saved",
        "rss_over_mb",
    }
    assert (found["n"], found["n_paths"], found["threads"]) == (2, 2, 2)
    assert list(found["tokens_per_s"]) == ["loop", "same_file", "direct", "one_variant", "limit"]
    assert found["loop_s_per_text"] > 0 and found["direct_speedup"] > 0 and found["efficiency"] > 0


def test_the_limit_decodes_the_very_tokens_that_direct_decodes(report):
    limit, direct = (sum(turn.n_tokens for turn in report.turns[part]) for part in ("limit", "one_variant"))
    assert limit == direct > 20


def test_ratios_are_of_the_totals_and_lie_in_their_range(report):
    ratios = report.ratios
    assert list(ratios) == ["speedup_same_file", "direct_speedup", "efficiency"]
    loop, same_file = (sum(turn.seconds for turn in report.turns[part]) for part in ("loop", "same_file"))
    assert ratios["speedup_same_file"].value == pytest.approx(loop / same_file)
    assert all(ratios[name].low <= ratios[name].value <= ratios[name].high for name in ("speedup_same_file", "direct_speedup"))


def test_the_table_names_machine_parts_and_ranges():
    turns = {"loop": [Turn(4.0, 80), Turn(2.0, 40)], "engine": [Turn(2.0, 90), Turn(0.5, 35)]}
    types = {"loop": "Q4_1", "engine": "Q4_0"}
    report = LabelBenchReport("Some CPU", "a teacher", types, 4, 8, 2, 2, "", turns, {}, None)
    assert report.as_text() == "\n".join(
        [
            "machine: Some CPU, threads: 2",
            "teacher: a teacher, texts: 4, per turn: 2, paths per text: 8",
            "",
            "part                                weights    s/text  tokens/s",
            "create_completion, one by one       Q4_1        1.500        20",
            "cot, default packing                Q4_0        0.625        50",
            "",
            "speed                                     of totals   range over the turns",
            "cot over create_completion                    2.40x   2.00 to 4.00",
        ]
    )


def test_memory_is_that_of_a_fresh_process_and_holds_file_and_cache(example):
    texts = read_texts(example / "texts.jsonl").texts
    memory = measure_memory(example / "task.toml", texts, TEACHER, "as-is", 1, 2, STATED)
    assert memory.peak_bytes > memory.file_bytes + memory.cache_bytes
    assert 50 < memory.over_mb < 300


def test_adaptive_paths_are_scored_against_fixed_ones_on_the_same_texts(example, tmp_path):
    task = load_task(example / "task.toml")
    gold = read_texts(example / "gold.jsonl", labels=task.label_names).texts
    teacher = open_local(TEACHER, pack="as-is", config=replace(STATED, n_threads=2, cache=tmp_path))
    try:
        two, one = LabelConfig(n_paths=2, max_rationale_tokens=4), LabelConfig(n_paths=1, max_rationale_tokens=4)
        saving = measure_saving(task, gold, teacher, two, one)
    finally:
        teacher.close()
    assert saving.paths_saved == 0.5
    assert saving.difference.value == pytest.approx(saving.adaptive - saving.fixed)
    assert saving.difference.n == 2


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--only", "loop,fast"],
            "--only: there is no part 'fast'; "
            "the parts are loop, engine, same_file, q8_0, server, direct, efficiency, memory, adaptive",
        ),
        (
            ["--only", "server"],
            "--only: the part 'server' needs --server, the path of llama-server (see benchmarks/teacher/build_llama_server)",
        ),
        (
            ["--server", "nowhere/llama-server"],
            "--server: nowhere/llama-server is not an executable file; "
            "give the path of llama-server (see benchmarks/teacher/build_llama_server)",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(options, line, capsys):
    assert console(["bench", "label", *options]) == 1
    assert capsys.readouterr() == ("", f"potstill: {line}\n")


def test_more_texts_than_there_are_is_refused(capsys, repository):
    assert console(["bench", "label", "--n", "1000"]) == 1
    file = repository / "potstill/examples/market_stance/texts.jsonl"
    assert capsys.readouterr().err == f"potstill: --n is 1000; {file} holds 450 texts: at most that many\n"


def test_the_command_prints_a_table(example, monkeypatch, capsys):
    monkeypatch.setattr("potstill.commands.bench.label.example_folder", lambda name: example)
    assert console(["bench", "label", "--n", "1", "--only", "loop", "--threads", "2"]) == 0
    out = capsys.readouterr().out
    assert "texts: 1, per turn: 16, paths per text: 8\n" in out and "\ncreate_completion, one by one       Q4_1 " in out


def test_as_json_the_command_prints_the_figures(report, monkeypatch, capsys):
    monkeypatch.setattr("potstill.labeler.bench.run.bench", lambda *_: report)  # measured already, through the same call
    assert console(["bench", "label", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == KEYS and found == msgspec.to_builtins(report.figures)
