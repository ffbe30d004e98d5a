"""Wordings of a task: from files, and guidelines that the teacher writes."""

import re
from pathlib import Path

import msgspec
import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.contract.task import Example, Label, Task, load_task
from potstill.labeler.teachers.local import LocalConfig
from potstill.labeler.teachers.opening import open_local
from potstill.labeler.tuning.config import TuneConfig
from potstill.labeler.tuning.wordings import rewritten, whole_sentences, wordings_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "market_stance"
FILE = """# what we ask
format = 1
name = "t"
question = "Up or down?"
{guideline}
# the labels
[[labels]]
name = "up"
meaning = "u"

[[labels]]
name = "down"
meaning = "d"
"""


def written(folder: Path, name: str = "task.toml", guideline: str = "", **changes: str) -> Path:
    text = FILE.format(guideline=guideline)
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {'name = "up"': 'name = "rise"'},
            "labels: are rise, down; another wording has the same labels in the same order: up, down",
        ),
        ({"# the labels": "[input]\ntarget = true"}, "input.target: is true; in another wording it is as in the first"),
    ],
)
def test_a_wording_of_other_labels_or_targets_is_refused(tmp_path: Path, changes, message):
    task, other = load_task(written(tmp_path)), written(tmp_path, "other.toml", **changes)
    with pytest.raises(FormatError) as caught:
        wordings_of(task, [other])
    assert str(caught.value) == f"{other}: {message}"


def test_two_wordings_of_one_name_are_refused(tmp_path: Path):
    (tmp_path / "b").mkdir()
    files = [written(tmp_path, "a.toml"), written(tmp_path / "b", "a.toml")]
    with pytest.raises(UserError, match=r"b/a\.toml: another wording is called a\.toml, too; rename one of the two"):
        wordings_of(load_task(files[0]), files)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ('"Judge the view.  Not the news."', "Judge the view. Not the news."),
        ("Judge the view. Not the ne", "Judge the view."),
        ("no sentence ends here", ""),
        ("看作者的看法。不要看新", "看作者的看法。"),
        ("It rose 3.5 per cent! And", "It rose 3.5 per cent!"),
    ],
)
def test_a_written_guideline_ends_with_a_whole_sentence(answer, kept):
    assert whole_sentences(answer) == kept


@pytest.mark.slow
@pytest.mark.parametrize("without", [False, True], ids=["guideline", "no guideline"])
def test_the_real_teacher_writes_guidelines_into_task_files_that_stay(tmp_path: Path, without: bool):
    text = (EXAMPLE / "task.toml").read_text()
    source = tmp_path / "task.toml"
    source.write_text(re.sub(r'guideline = """.*?"""\n', "", text, flags=re.S) if without else text)
    task = load_task(source)
    assert bool(task.guideline) is not without
    teacher = open_local("smollm2-135m-instruct", config=LocalConfig(n_threads=2, cache=tmp_path / "cache"))
    try:
        found = rewritten(task, source, tmp_path, teacher, 5, seed=1)
        files = {wording.file: wording.file.read_bytes() for wording in found}
        assert 1 <= len(found) <= 5
        for wording in found:
            assert wording.task.guideline not in ("", task.guideline)
            assert msgspec.structs.replace(wording.task, guideline=task.guideline) == task
            assert all(line in wording.file.read_text().splitlines() for line in text.splitlines() if line.startswith("#"))
        assert len({wording.task.guideline for wording in found}) == len(found)
        teacher.answer = None  # it must not be asked again
        again = rewritten(task, source, tmp_path, teacher, 5, seed=2)
        assert {wording.file: wording.file.read_bytes() for wording in again} == files
    finally:
        teacher.close()


@pytest.mark.slow
def test_a_task_without_a_file_is_written_whole(tmp_path: Path):
    examples = [Example(text=f"it went {name} again", label=name) for name in ("up", "down")]
    task = Task(format=1, name="t", question="Up or down?", labels=[Label(name="up"), Label(name="down")], examples=examples)
    teacher = open_local("smollm2-135m-instruct", config=LocalConfig(n_threads=2, cache=tmp_path / "cache"))
    try:
        found = rewritten(task, None, tmp_path, teacher, 1)
    finally:
        teacher.close()
    assert [load_task(wording.file).examples for wording in found] == [examples] * len(found)


def test_fewer_than_no_rewrites_are_refused():
    with pytest.raises(UserError, match="rewrites is -1; it must be at least 0"):
        TuneConfig(rewrites=-1)
