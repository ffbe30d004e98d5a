import os
import signal
import socket
import subprocess
import sys

import pytest
from support.processes import parent_of
from support.toy_task import QUICK, a_task, gold_texts, toy_rows, until_step, write_rows

from potstill.contract.checkpoint import read_student
from potstill.contract.errors import UserError
from potstill.trainer.config import TrainConfig
from potstill.trainer.evaluation.checkpoint_scores import evaluate
from potstill.trainer.run import train
from potstill.trainer.training.batches import Shuffled

pytestmark = pytest.mark.slow

RUN = """
import sys, time
from pathlib import Path
from support.toy_task import QUICK, a_task
from potstill.commands.console.errors import heeding_sigterm
from potstill.contract.errors import StoppedError
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train

def slowly(stage, done, total, loss):
    print(done, flush=True)
    if done >= {slow_from}:
        time.sleep(0.02)

config = TrainConfig(**(QUICK | {changes!r}), backbone={backbone!r}, save_every=0.0)
try:
    with heeding_sigterm():
        train(a_task(), Path({soft_labels!r}), Path({checkpoint!r}), config, slowly)
except StoppedError as stop:
    print(stop, file=sys.stderr)
    sys.exit(130)
"""


@pytest.fixture(scope="module")
def parent():
    with parent_of("support.toy_task", "potstill.trainer.run", "potstill.commands.console.errors") as parent:
        yield parent


@pytest.fixture(scope="module")
def soft_labels(tmp_path_factory):
    """Few enough for short trainings: a state is saved after every step here."""
    return write_rows(tmp_path_factory.mktemp("labels") / "soft_labels.jsonl", toy_rows(160, a_task()))


@pytest.fixture
def start(parent, backbone, soft_labels):
    running = []

    def begin(checkpoint, until=None, **changes):
        """Train; with a step, return when that is done, and go on slowly from there, so that a signal comes before the end."""
        paths = {"backbone": str(backbone), "soft_labels": str(soft_labels), "checkpoint": str(checkpoint)}
        running.append(parent.start(RUN.format(changes=changes, slow_from=until or sys.maxsize, **paths)))
        if until:
            until_step(running[-1], until)
        return running[-1]

    yield begin
    for process in running:
        with process:
            pass


@pytest.fixture
def whole(backbone, soft_labels, tmp_path):
    """The weights of a run that nobody stopped."""

    def weights(**changes):
        config = TrainConfig(**(QUICK | changes), backbone=str(backbone))
        train(a_task(), soft_labels, tmp_path / "whole", config)
        return (tmp_path / "whole" / "model.safetensors").read_bytes()

    return weights


@pytest.mark.parametrize("changes", [{"epochs": 2, "min_validation": 1}, {"epochs": 2}], ids=["best epoch", "last epoch"])
def test_a_run_that_is_killed_again_and_again_ends_with_the_weights_of_one_that_was_not(start, whole, tmp_path, changes):
    expected = whole(**changes)
    checkpoint = tmp_path / "student"
    for wanted in (5, 13, 23):
        process = start(checkpoint, until=wanted, **changes)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not checkpoint.exists()
        assert (tmp_path / "student.partial" / "run.json").exists()
    process = start(checkpoint, **changes)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert int(output.split()[0]) > 21  # it resumed, it did not start over
    assert (checkpoint / "model.safetensors").read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student", "whole"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_says_how_to_go_on(start, tmp_path, number):
    process = start(tmp_path / "student", until=4, epochs=2)
    process.send_signal(number)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    step = int(output.split()[-1])
    assert errors.splitlines()[-1] == (
        f"stopped at step {step} of 36; what is trained is kept in {tmp_path / 'student.partial'}; the same command goes on from there"
    )
    assert list((tmp_path / "student.partial" / "student").glob(f"checkpoint-{step}/kept.pt"))


@pytest.fixture
def stopped(start, tmp_path):
    """A work folder of a run that was killed."""
    process = start(tmp_path / "student", until=3, epochs=2)
    process.kill()
    process.wait()
    return tmp_path / "student.partial"


def test_a_run_with_other_settings_is_refused_in_one_line_and_starts_over_on_request(stopped, backbone, soft_labels, tmp_path):
    config = TrainConfig(**(QUICK | {"epochs": 1}), backbone=str(backbone))
    with pytest.raises(UserError) as caught:
        train(a_task(), soft_labels, tmp_path / "student", config)
    assert str(caught.value) == (
        f"{stopped}: holds an unfinished run with other settings (epochs was 2, is 1); finish that run, or add --restart"
    )
    assert stopped.exists() and not (tmp_path / "student").exists()
    seen = []
    train(a_task(), soft_labels, tmp_path / "student", config, lambda *step: seen.append(step), "restart")
    assert seen[0][1] == 1
    assert (tmp_path / "student").exists() and not stopped.exists()


def test_the_number_of_threads_and_the_interval_may_change_on_the_way(stopped, backbone, soft_labels, tmp_path):
    config = TrainConfig(**(QUICK | {"epochs": 2, "threads": 2}), backbone=str(backbone), save_every=5.0)
    seen = []
    train(a_task(), soft_labels, tmp_path / "student", config, lambda *step: seen.append(step))
    assert seen[0][1] > 2


def test_two_processes_do_not_train_the_same_student_at_once(start, backbone, soft_labels, tmp_path):
    start(tmp_path / "student", until=3, epochs=2)
    config = TrainConfig(**(QUICK | {"epochs": 2}), backbone=str(backbone))
    with pytest.raises(UserError, match=r"student.partial: another process is training this student; wait for it, or stop it$"):
        train(a_task(), soft_labels, tmp_path / "student", config)
    assert (tmp_path / "student.partial" / "student").exists()


@pytest.mark.parametrize("left", [["lock"], ["lock", ".run.json.0123456789ab"]], ids=["before run.json", "within run.json"])
def test_a_run_that_was_killed_while_it_made_its_work_folder_is_begun_again_by_the_same_command(
    left, backbone, soft_labels, tmp_path
):
    work = tmp_path / "student.partial"
    work.mkdir()
    for name in left:
        (work / name).write_text("")
    config = TrainConfig(**(QUICK | {"epochs": 1}), backbone=str(backbone))
    train(a_task(), soft_labels, tmp_path / "student", config)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_what_is_left_of_a_work_folder_whose_removal_was_killed_goes_with_the_next_run(backbone, soft_labels, tmp_path):
    (tmp_path / ".student.partial.gone.0123456789ab" / "student").mkdir(parents=True)
    train(a_task(), soft_labels, tmp_path / "student", TrainConfig(**(QUICK | {"epochs": 1}), backbone=str(backbone)))
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_folder_of_that_name_that_is_not_a_work_folder_is_left_alone(backbone, soft_labels, tmp_path):
    (tmp_path / "student.partial").mkdir()
    (tmp_path / "student.partial" / "diary.txt").write_text("mine")
    config = TrainConfig(**QUICK, backbone=str(backbone))
    with pytest.raises(UserError, match=r"student.partial: is not the work folder of a training"):
        train(a_task(), soft_labels, tmp_path / "student", config)
    assert [path.name for path in (tmp_path / "student.partial").iterdir()] == ["diary.txt"]


def test_a_state_that_a_full_disk_refuses_is_one_line_and_the_last_state_stays(
    stopped, backbone, soft_labels, tmp_path, monkeypatch
):
    before = sorted(path.name for path in (stopped / "student").iterdir())

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", no_space)
    config = TrainConfig(**(QUICK | {"epochs": 2}), backbone=str(backbone), save_every=0.0)
    with pytest.raises(
        UserError, match=r"the state cannot be saved \(No space left on device\); free some space, and the same command goes on"
    ):
        train(a_task(), soft_labels, tmp_path / "student", config)
    assert set(before) & {path.parent.name for path in (stopped / "student").glob("*/kept.pt")}
    assert not (tmp_path / "student").exists()


def test_batches_are_the_same_for_the_same_epoch_and_others_for_the_next():
    sampler = Shuffled(1003, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(1003)) and first == list(sampler) and first != sorted(first)
    sampler.set_epoch(1)
    assert sorted(sampler) == sorted(first) and list(sampler) != first


# --- several processes that train together

DISTRIBUTED = """
import sys
sys.path[:0] = [{repository!r}, {repository!r} + "/tests"]
import os
from pathlib import Path
from support.toy_task import QUICK, a_task
from potstill.trainer.training import fit
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train

seen, collate = [], fit._collate
fit._collate = lambda rows, pad_id: seen.append(len(rows)) or collate(rows, pad_id)
here = Path({here!r})
train(a_task(), here / "soft_labels.jsonl", here / "student", TrainConfig(**(QUICK | {{"epochs": 1}}), backbone={backbone!r}))
(here / ("rank" + os.environ["RANK"])).write_text(str(sum(n <= 8 for n in seen)))
"""


def test_two_processes_share_the_texts_and_one_of_them_writes(backbone, tmp_path, repository):
    write_rows(tmp_path / "soft_labels.jsonl", toy_rows(120, a_task()))
    script = tmp_path / "script.py"
    script.write_text(DISTRIBUTED.format(repository=str(repository), here=str(tmp_path), backbone=str(backbone)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port", str(port)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", *start, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    n_batches = -(-read_student(tmp_path / "student").n_train // 8)
    assert [int((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1)] == [-(-n_batches // 2)] * 2
    assert evaluate(tmp_path / "student", gold_texts(12))["accuracy"].n == 12
    assert not (tmp_path / "student.partial").exists()
