"""Each kind of bad input at the console: one line, exit code 1, and nothing half-written.

In this process: a fresh one for each of these would import torch each time. workflows.test_pipeline.py starts the real command.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from support.small_task import SMALL_TASK

from potstill.commands.main import run as console

pytestmark = pytest.mark.slow


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*args: str) -> Done:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        code = console(args)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.toml").write_text(SMALL_TASK)
    (tmp_path / "texts.jsonl").write_text('{"text": "hm"}\n')
    return tmp_path


NOBODY = "http://127.0.0.1:9/v1"  # where nothing listens
SERVED = f"format = 1\nteacher = '{NOBODY}'\n[label]\n".encode()
CASES = [
    (("label", "no.toml", "texts.jsonl", "out"), {}, "no.toml: no such file"),
    (("label", "task.toml", "no.jsonl", "out"), {}, "no.jsonl: no such file"),
    (("label", "task.toml", "texts.txt", "out"), {"texts.txt": b"hm"}, "texts.txt: unknown kind '.txt'; allowed: .jsonl, .jsonl.gz, .csv"),
    (("label", "task.toml", "texts.jsonl", "out"), {"texts.jsonl": b""}, "texts.jsonl: has no usable text"),
    (("label", "task.toml", "texts.jsonl", "out"), {"texts.jsonl": b'{"text": ""}\n'}, "texts.jsonl: has no usable text (1 empty)"),
    (("label", "task.toml", "texts.jsonl", "out"), {"texts.jsonl": b'{"text": "a\\u0000"}'}, "no usable text (1 with a NUL character)"),
    (("label", "task.toml", "texts.jsonl", "out"), {"texts.jsonl": b'{"text": "a\xff"}\n'}, "texts.jsonl: line 1: byte 0xff is not UTF-8"),
    (("label", "task.toml", "texts.jsonl", "out"), {"texts.jsonl": b'{"text": "a"}\n{"txt": 1}\n'}, "texts.jsonl: line 2: "),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", "no-such"), {}, "'no-such' is neither a file nor a known teacher"),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", "cut.gguf"), {"cut.gguf": b"GGUF\x03\0\0\0"}, "cut.gguf: is truncated"),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", "x.gguf"), {"x.gguf": b"PK\x03\x04"}, "x.gguf: is not a GGUF file"),
    (("label", "task.toml", "texts.jsonl", "out", "--paths", "0"), {}, "paths is 0; it must be at least 1"),
    (("label", "task.toml", "texts.jsonl", "out", "--temperature", "-1"), {}, "temperature is -1.0; it must be above 0"),
    (("label", "task.toml", "texts.jsonl", "out", "--gold", "texts.jsonl"), {}, "has no gold label"),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", NOBODY), {}, f"{NOBODY}: no server answers there (All connection attempts"),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", "http://"), {}, "http://: is not the address of a server; an address looks like"),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", NOBODY, "--threads", "2"), {}, f"in this process only; {NOBODY} is a server"),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", NOBODY, "--deterministic"), {}, f"in this process only; {NOBODY} is a server"),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", NOBODY, "--dry-run"), {}, f"for {NOBODY}, label a few texts and see"),
    (("label", "task.toml", "texts.jsonl", "out", "--teacher", NOBODY, "--concurrency", "0"), {}, "concurrency is 0; it must be a whole number"),
    (("label", "task.toml", "texts.jsonl", "out", "--model", "m"), {}, "model, api and concurrency apply to a server only; 'smollm2-135m"),
    (("task", "check", "task.toml"), {"task.toml": SMALL_TASK.replace('"down"\nm', '"up"\nm').encode()}, "labels[1].name: repeats 'up'"),
    (("task", "check", "task.toml"), {"task.toml": SMALL_TASK.encode() + b"colour = 1"}, "task.toml: examples[1]: unknown key 'colour'; allowed: text, rationale, label, target"),
    (("labels", "summary", "labels.db"), {}, "labels.db: no such label store; make one with: potstill label"),
    (("train", "task.toml", "no.parquet", "student"), {}, "no.parquet: no such file"),
    (("train", "task.toml", "bad.parquet", "student"), {"bad.parquet": b"PAR1"}, "bad.parquet: not a readable Parquet file"),
    (("export", "student", "bundle"), {}, "student: is not a checkpoint: there is no such folder; check the path, or make one with: potstill train"),
    (("predict", "bundle", "texts.jsonl"), {}, "bundle: is not a bundle: there is no such folder; check the path, or make"),
    (("shares", "bundle", "texts.jsonl", "--gold", "texts.jsonl"), {}, "bundle: is not a bundle: there is no such folder; check the path, or make"),
    (("shares", "bundle", "texts.jsonl", "--gold", "texts.jsonl", "--confidence", "95"), {}, "confidence is 95; it must be at least 0.5"),
    (("status", "nothing"), {}, "nothing: no such file or folder; check the path"),
    (("status", "no.toml"), {}, "no.toml: no such file"),
    (("status", "task.toml"), {}, "task.toml: "),
    (("labels", "show", "labels.db"), {}, "labels.db: no such label store; make one with: potstill label"),
    (("labels", "show", "bad.db"), {"bad.db": b"x" * 9000}, "bad.db: is damaged or not a label store"),
    (("report", "student", "texts.jsonl", "--run", "none"), {}, "none: is no folder; name one of potstill run or potstill label"),
    (("train", "task.toml", "no.parquet", "student", "--use-gold", "no.jsonl"), {}, "no.parquet: no such file"),
    (("evaluate", "student", "texts.jsonl"), {}, "student: is not a checkpoint"),
    (("evaluate", "texts.jsonl", "texts.jsonl"), {}, "texts.jsonl: is not a checkpoint: it is a file; name the folder that potstill train wrote"),
    (("predict", "texts.jsonl", "texts.jsonl"), {}, "texts.jsonl: is not a bundle: it is a file; name the folder that potstill export wrote"),
    (("train", "task.toml", "texts.jsonl", "student"), {}, "texts.jsonl: holds texts (text), not soft labels; make them of texts with: potstill label"),
    (("train", "task.toml", "texts.csv", "student"), {"texts.csv": b"text"}, "unknown kind '.csv'; soft labels are .parquet or .jsonl; make"),
    (("train", "task.toml", ".", "student"), {"soft_labels.parquet": b""}, ".: is a folder; name the soft labels in it: soft_labels.parquet"),
    (("task", "check", "task.toml"), {"task.toml": b"format = 1\n[[questions]]\n"}, "format: is 1, which asks one question; with [[questions]] write"),
    *[
        ((*words, "texts.jsonl", *rest), {}, "texts.jsonl: is not a bundle: it is a file; name the folder that potstill export wrote")
        for words, *rest in (
            (("certify",), "texts.jsonl"), (("check",), "texts.jsonl"), (("verify",),), (("serve",),), (("bench", "bundle"),),
            (("bench", "server"),), (("package", "--for", "docker"), "out"), (("adapt",), "texts.jsonl", "--out", "out"),
            (("shares",), "texts.jsonl", "--gold", "texts.jsonl"), (("cascade",), "texts.jsonl", "texts.jsonl", "out"),
            (("push",), "ann/tiny"), (("sign", "--key", "texts.jsonl"),),
        )
    ],
    *[
        ((*words, "texts.jsonl", *rest), {}, "texts.jsonl: is not a checkpoint: it is a file; name the folder that potstill train wrote")
        for words, *rest in ((("export",), "out"), (("calibrate", "--coverage", "0.9"), "texts.jsonl"), (("report",), "texts.jsonl"))
    ],
    (("labels", "show", "."), {}, ".: is a folder; name a label store, such as labels.db"),
    (("labels", "show", "."), {"labels.db": b"x"}, ".: is a folder; name the label store in it: labels.db"),
    (("label", "task.toml", "texts.jsonl", "out", "--then-share", "0.3"), {}, "given for a second teacher, but no teacher; name one with --then"),
    (("label", "task.toml", "texts.jsonl", "out", "--then-paths", "3"), {}, "given for a second teacher, but no teacher; name one with --then"),
    (("run", "project.toml"), {"project.toml": b"format = 1\n[label]\nthen_below = 0.5\n"}, "second teacher, but no teacher; name one with --then"),
    (("bench", "bundle", "bundle"), {}, "bundle: is not a bundle"),
    (("serve", "bundle"), {}, "bundle: is not a bundle"),
    (("run", "project.toml"), {}, "project.toml: no such file"),
    (("run", "project.toml"), {"project.toml": b"format = 1\n[label]\npaths = 3\n"}, "label: unknown key 'paths' (did you mean 'n_paths'?); allowed: mode, n_paths"),
    (("run", "project.toml"), {"project.toml": b"format = 1\n[label]\npack = 'Q9'\n"}, "pack is 'Q9'; allowed: auto, as-is, Q8_0, Q4_0"),
    (("run", "project.toml"), {"project.toml": b"format = 1\n[label]\nmethod = 'best'\n"}, "label: method: is 'best'; allowed: affine, calibrated, majority"),
    (("run", "project.toml"), {"project.toml": b"format = 1\n[label]\nsmooth = 'ten'\n"}, "project.toml: label: smooth: expected `int`, got `str`"),
    (("run", "project.toml"), {"project.toml": b"format = 1\n[label.prior]\nup = 1\n"}, "prior: up is 1; each share must be above 0 and below 1"),
    (("label", "task.toml", "texts.jsonl", "out", "--prior", "up=0.7"), {}, "prior: the shares of up sum to 0.7; they must sum to 1"),
    (("labels", "check", "labels.db"), {}, "labels.db: no such label store; make one with: potstill label"),
    (("run", "project.toml"), {"project.toml": SERVED + b"model = 'm'\nconcurrency = 2\n"}, f"{NOBODY}: no server answers there"),
    (("run", "project.toml"), {"project.toml": SERVED + b"concurrency = 'x'\n"}, "concurrency is 'x'; it must be a whole number, at least 1"),
    (("run", "project.toml"), {"project.toml": b"format = 9\n"}, "project.toml: format: is 9; this version reads 1"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "files", "message"), CASES, ids=[f"{' '.join(case[0])}: {case[2][:40]}" for case in CASES])
def test_bad_input_is_one_line_and_exit_code_1(run, folder, args, files, message):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    before = sorted(path.name for path in folder.iterdir())
    done = run(*args)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("potstill: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


LABEL = ("--mode", "direct", "--paths", "1", "--pack", "as-is", "--deterministic")  # nothing is measured first
MEGABYTE = "up and down. " * 80_000  # about 320,000 tokens; the teacher's context holds 8192


def texts(*rows: str) -> str:
    return "".join(json.dumps({"id": f"row {number}", "text": row}) + "\n" for number, row in enumerate(rows, 1))


def test_an_overlong_an_empty_and_a_nul_text_are_counted_and_the_others_labelled(run, folder):
    (folder / "texts.jsonl").write_text(texts("I buy more.", MEGABYTE, "", "I\0sell"))
    cut = run("label", "task.toml", "texts.jsonl", "cut", *LABEL)
    assert cut.returncode == 0
    skipped, stored, wrote = cut.stdout.splitlines()
    assert skipped == "skipped 2 of 4 rows: 1 empty, 1 with a NUL character"
    assert stored.startswith("2 paths of 2 texts are stored; ") and stored.endswith("; 1 text was cut for the prompt")
    assert wrote == "wrote 2 soft labels to cut/soft_labels.parquet"
    (folder / "whole.toml").write_text(SMALL_TASK + "[input]\nmax_chars = 2000000\n")
    whole = run("label", "whole.toml", "texts.jsonl", "whole", *LABEL)
    assert whole.returncode == 0
    assert whole.stdout.splitlines()[1].endswith("; 1 text is too long for the teacher's context and has no label")
    assert whole.stdout.splitlines()[2] == "wrote 1 soft label to whole/soft_labels.parquet"


def test_texts_that_are_all_too_long_for_the_teacher_are_one_line_that_says_what_to_do(run, folder):
    (folder / "texts.jsonl").write_text(texts(MEGABYTE))
    (folder / "task.toml").write_text(SMALL_TASK + "[input]\nmax_chars = 2000000\n")
    for _ in range(2):  # the second time they are known from the store
        done = run("label", "task.toml", "texts.jsonl", "out", *LABEL)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            "potstill: none of the 1 texts fits into the context of smollm2-135m-instruct, so none has a label; "
            "show the teacher less of each with input.max_chars in the task"
        )
        assert not (folder / "out" / "soft_labels.parquet").exists()


@pytest.mark.parametrize("args", [("label",), ("label", "task.toml", "texts.jsonl", "out", "--mode", "wild"), ("nothing",)])
def test_wrong_usage_is_exit_code_2(run, args):
    assert run(*args).returncode == 2


def test_init_writes_a_task_that_is_sound_and_refuses_to_overwrite(run):
    assert run("init", "mine").returncode == 0
    assert "sound; 3 labels, 6 worked examples" in run("task", "check", "mine/task.toml").stdout
    again = run("init", "mine")
    assert again.returncode == 1
    assert "is already there; choose another folder" in again.stderr


def test_task_show_prints_the_exact_prompt(run):
    shown = run("task", "show", "task.toml", "hm", "--mode", "cot").stdout
    assert shown.endswith("Text: I sell\nOpinion: Sold.\nAnswer: down\n\nText: hm\nOpinion:\n")
