"""`potstill label` refuses to mix what differs, and leaves a store that it does not understand as it was."""

import json
import sqlite3
from pathlib import Path

import pytest
from support.small_task import SMALL_TASK

from potstill.commands.main import run as console
from potstill.models.catalog import find_teacher
from potstill.models.repack import repacked

pytestmark = pytest.mark.slow

RUN = ("--mode", "direct", "--paths", "2", "--deterministic", "--pack", "Q4_0")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "task.toml").write_text(SMALL_TASK)
    (folder / "texts.jsonl").write_text("".join(json.dumps({"id": str(i), "text": f"text {i}"}) + "\n" for i in range(3)))
    assert label(folder) == 0
    return folder


def label(folder: Path, *more: str, task: str = "task.toml", texts: str = "texts.jsonl", arguments: tuple[str, ...] = RUN) -> int:
    return console(["label", str(folder / task), str(folder / texts), str(folder / "out"), *arguments, *more])


def n_runs(folder: Path) -> int:
    with sqlite3.connect(folder / "out" / "labels.db") as connection:
        (n,) = connection.execute("select count(*) from runs").fetchone()
    connection.close()
    return n


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_same_command_draws_nothing_twice(labelled: Path, capsys):
    assert label(labelled) == 0
    assert "6 paths of 3 texts are stored; 0 of them drawn now" in capsys.readouterr().out


def other_file(labelled: Path) -> tuple[str, ...]:
    return ("--teacher", str(repacked(find_teacher("smollm2-135m-instruct"), "Q8_0").path), "--pack", "as-is")


@pytest.mark.parametrize(
    ("more", "differs"),
    [
        (("--seed", "1"), "seed"),
        (("--no-guideline",), "guideline"),
        (("--temperature", "0.7"), "temperature"),
        (("--mode", "cot", "--variants", "2"), "prompt digest, mode"),
        (("--template", "chat"), "prompt digest, template"),
        (other_file, "teacher, teacher digest, source digest"),
        (("--pack", "Q8_0"), "teacher digest"),
    ],
    ids=["seed", "guideline", "temperature", "mode", "template", "file", "packing"],
)
def test_a_command_that_differs_is_refused_with_what_differs(labelled: Path, capsys, more, differs):
    more = more(labelled) if callable(more) else more
    before = n_runs(labelled)
    assert label(labelled, *more) == 1
    expected = "use --new-run to label again beside it, or another folder"
    assert refused(capsys) == f"potstill: {labelled}/out/labels.db: was labelled with another {differs}; {expected}"
    assert n_runs(labelled) == before


def test_another_task_is_refused_and_new_run_starts_beside(labelled: Path, capsys):
    (labelled / "other.toml").write_text(SMALL_TASK.replace("Up or down?", "Which way?"))
    before = n_runs(labelled)
    assert label(labelled, task="other.toml") == 1
    assert "was labelled with another task digest, prompt digest; use --new-run" in refused(capsys)
    assert label(labelled, "--new-run", task="other.toml") == 0
    assert n_runs(labelled) == before + 1
    for task in ("task.toml", "other.toml"):  # both go on
        assert label(labelled, task=task) == 0
        assert "0 of them drawn now" in capsys.readouterr().out


def test_a_text_that_changed_under_its_id_is_refused(labelled: Path, capsys):
    (labelled / "changed.jsonl").write_text('{"id": "0", "text": "text 0"}\n{"id": "1", "text": "quite another text"}\n')
    assert label(labelled, texts="changed.jsonl") == 1
    assert refused(capsys) == (
        f"potstill: {labelled}/out/labels.db: text '1' was another text when it was labelled ('text 1'); "
        "give the changed text a new id, or label into another folder"
    )


def test_a_fixed_schedule_refuses_another_number_of_paths_at_once(labelled: Path, capsys):
    assert label(labelled, "--parallel", "8") == 1
    assert refused(capsys) == (
        "potstill: a deterministic run fixes how many paths are stepped at once; leave out --parallel or --deterministic"
    )


def flipped(good: bytes) -> bytes:
    """Ones in place of the pages' heads, from the second page on."""
    size = int.from_bytes(good[16:18], "big")
    pages = [good[i : i + size] for i in range(0, len(good), size)]
    return b"".join([pages[0], *(b"\xff" * 16 + page[16:] for page in pages[1:])])


def another_application(_: bytes) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table mine (x)")
    connection.commit()
    return connection.serialize()


DAMAGED = "is damaged or not a label store ({}"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flipped, DAMAGED.format("")),
        (lambda good: good[: len(good) // 2], DAMAGED.format("database disk image is malformed")),
        (lambda good: good[:50], DAMAGED.format("")),
        (lambda _: b"notes, not a database\n" * 300, DAMAGED.format("file is not a database")),
        (another_application, "is not a label store of format 1 (found 0); choose another place"),
        (lambda good: good.replace(b'"task_digest"', b'"tusk_digest"'), "settings of run 1: are damaged or of a newer version"),
        (lambda good: good.replace(b"[-", b"[?"), "path 0 of text '0': is damaged: its log-probabilities are '[?"),
        (lambda good: good.replace(b"text 1", b"text \xff"), DAMAGED.format("Could not decode to UTF-8")),
    ],
    ids=["flipped", "half", "cut", "notes", "other database", "settings", "log-probabilities", "no UTF-8"],
)
def test_a_store_that_cannot_be_read_is_one_line_and_stays_as_it_was(labelled: Path, tmp_path: Path, capsys, damage, problem):
    good = (labelled / "out" / "labels.db").read_bytes()
    for name in ("task.toml", "texts.jsonl"):
        (tmp_path / name).write_bytes((labelled / name).read_bytes())
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "labels.db"
    file.write_bytes(damage(good))
    damaged = file.read_bytes()
    assert damaged != good
    assert label(tmp_path) == 1
    line = refused(capsys)
    assert line.startswith(f"potstill: {file}: ")
    assert problem in line
    assert "label into another folder" in line or "choose another place" in line
    assert file.read_bytes() == damaged
    assert {path.name for path in file.parent.iterdir()} <= {"labels.db", "labels.db.lock", "labels.db-wal", "labels.db-shm"}


def test_a_place_that_is_a_file_is_refused(labelled: Path, capsys, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    arguments = ["label", str(labelled / "task.toml"), str(labelled / "texts.jsonl"), str(tmp_path / "file"), *RUN]
    assert console(arguments) == 1
    assert refused(capsys) == f"potstill: {tmp_path}/file: is a file; name a folder, which is made if it is not there"


@pytest.mark.parametrize(
    ("found", "instead", "problem"),
    [
        (b"GGUF", b"GGUE", "is not a GGUF file"),
        (b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama", b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0lxama", "llama.cpp cannot load it ("),
        (b"blk.0.attn_q.weight\x02\0\0\0", b"blk.0.attn_q.weight\x03\0\0\x40", "is damaged: a tensor has 1073741827 dimensions"),
        (b"blk.0.attn_q.weight", b"blk.0.attn_?.weight", "llama.cpp cannot load it ("),
    ],
    ids=["magic", "architecture", "dimensions", "tensor name"],
)  # fmt: skip
def test_a_teacher_with_flipped_bytes_in_its_header_is_one_line(labelled: Path, tmp_path: Path, capsys, found, instead, problem):
    good = find_teacher("smollm2-135m-instruct").path.read_bytes()
    assert found in good
    (tmp_path / "flipped.gguf").write_bytes(good.replace(found, instead, 1))
    arguments = ["label", str(labelled / "task.toml"), str(labelled / "texts.jsonl"), str(tmp_path / "out")]
    assert console([*arguments, "--teacher", str(tmp_path / "flipped.gguf"), "--pack", "as-is"]) == 1
    line = refused(capsys)
    assert line.startswith(f"potstill: {tmp_path}/flipped.gguf: ")
    assert problem in line
    assert not (tmp_path / "out").exists()
