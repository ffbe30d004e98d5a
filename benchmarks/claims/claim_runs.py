"""Run the commands of a claim within its time, and keep what they printed, on which machine and of which version."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from claim_table import ROOT, Job

from potstill.contract.files.atomic import write_file
from potstill.contract.system.machine import cpu, cpu_name, usable_cores

PASSED, FAILED, STOPPED = "passed", "failed", "stopped"
PACKAGES = ("potstill", "numpy", "onnxruntime", "tokenizers", "torch", "transformers", "scikit-learn", "llama-cpp-python")
N_ERROR_LINES = 20  # the end of what a failed program wrote to stderr


class Run(msgspec.Struct):
    """What came of a claim; `NAME.json` holds it."""

    name: str
    title: str
    commands: list[str]
    digest: str  # of package and program
    state: str  # passed, failed or stopped
    begun: str  # local time, ISO 8601
    seconds: float
    cpu: str
    flags: list[str]  # instruction sets that int8 kernels are chosen by
    cores: int
    load: tuple[float, float]  # of the last minute, before and after
    python: str
    versions: dict[str, str]
    output: str  # stdout of all commands
    error: str = ""  # what went wrong, and the end of stderr


def finished(file: Path) -> Run | None:
    """The run that a file holds; None if there is none, or it cannot be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Run)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def is_current(run: Run | None, job: Job) -> bool:
    """Whether these commands passed already with this version of package and program."""
    return run is not None and run.state == PASSED and run.commands == job.commands and run.digest == job.digest


def measure(job: Job, results: Path, minutes: float) -> Run:
    """Run the commands one after the other until one fails or the time is over, and write `NAME.json` and `NAME.log`.

    Args:
        job: what to run.
        results: folder of the files.
        minutes: the longest that they may take together.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    before, start, begun = os.getloadavg()[0], time.monotonic(), datetime.now().astimezone().isoformat(timespec="seconds")
    out, log = results / "work" / f"{job.name}.out", results / f"{job.name}.log"
    out.write_bytes(b"")
    log.write_bytes(b"")
    state, error = PASSED, ""
    for command in job.commands:
        state, error = _call(command, out, log, 60 * minutes - (time.monotonic() - start))
        if state != PASSED:
            break
    run = Run(
        job.name, job.claim.title, job.commands, job.digest, state, begun, time.monotonic() - start,
        cpu_name(), cpu()[1], usable_cores(), (before, os.getloadavg()[0]), sys.version.split()[0], versions(),
        out.read_text(encoding="utf-8", errors="replace"), error,
    )  # fmt: skip
    write_file(results / f"{job.name}.json", msgspec.json.format(msgspec.json.encode(run)))
    return run


def _call(command: str, out: Path, log: Path, seconds: float) -> tuple[str, str]:
    """Run one command: its stdout is added to one file, its stderr to another. Returns state and error."""
    paths = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with out.open("ab") as stdout, log.open("ab") as stderr:
        place = stderr.tell()
        try:
            process = subprocess.Popen(
                words(command), cwd=ROOT, env=environment, stdout=stdout, stderr=stderr, start_new_session=True
            )
        except OSError as error:
            return FAILED, f"{command}: {error}"
        try:
            code = process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            return STOPPED, f"{command}: the time was over"
        finally:  # also after Ctrl-C: nothing that it started goes on
            _end(process)
    if code == 0:
        return PASSED, ""
    lines = log.read_bytes()[place:].decode(errors="replace").splitlines()[-N_ERROR_LINES:]
    return FAILED, "\n".join([f"{command}: exit code {code}", *lines])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a program and of those that it started, which are in its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of them ended by themselves
    process.wait()


def words(command: str) -> list[str]:
    """A command as a list; `python` is this interpreter, and `potstill` the package that it imports."""
    first, *others = shlex.split(command)
    ours = {"python": [sys.executable], "potstill": [sys.executable, "-m", "potstill"]}
    return [*ours.get(first, [first]), *others]


def versions() -> dict[str, str]:
    """The installed versions of `PACKAGES`."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
