"""What `potstill doctor` finds, also where parts are missing or broken."""

import subprocess
import sys
from dataclasses import replace

import pytest

from potstill.contract.system import machine
from potstill.contract.system.child_process import environment
from potstill.models.devices import Gpu, LlamaBuild
from potstill.workflows import doctor
from potstill.workflows.doctor import Checkup, LlamaAnswer, ask_llama, checkup, kept_rows, llama_problems, machine_problems

BUILD = LlamaBuild("0.3.36", (), (), ("AVX2", "NEON", "AVX512"))
CUDA = replace(BUILD, backends=("CUDA",), gpus=(Gpu("CUDA0", "A Card", 10**9, 4 * 10**9),))
WITHOUT = """
import sys
for name in ("llama_cpp", "torch", "onnxruntime", "transformers", "numpy", "httpx", "jinja2", "pyarrow"):
    sys.modules[name] = None  # as if it were not installed
from potstill.commands.main import run
sys.exit(run(["doctor"]))
"""


@pytest.fixture
def no_driver(monkeypatch):
    monkeypatch.setattr(doctor, "fitting_backend", lambda: None)


def test_the_checkup_names_cores_memory_disk_and_the_installed_versions():
    text = checkup().as_text()
    for wanted in ("CPU  ", " usable of ", " GB free", "llama-cpp-python 0.3", "onnxruntime  ", "torch  ", "problems\n  - "):
        assert wanted in text, text


def test_it_works_where_no_extra_is_installed():
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "build               not installed; pip install 'potstill[label]'" in done.stdout
    assert "- llama-cpp-python is not installed, so no teacher labels in this process: pip install 'potstill[label]'" in done.stdout


def test_what_earlier_runs_left_is_listed_once_with_sizes_and_the_command_that_deletes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my cache"))
    monkeypatch.delenv("POTSTILL_MODELS", raising=False)
    home = tmp_path / "my cache" / "potstill"
    assert kept_rows() == [("nothing", "outside the folders that you name")]
    for name, size in (("answer_times/a.json", 1_000_000), ("models/repacked/b.gguf", 2_000_000), ("models/c/d.gguf", 3_000_000)):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_bytes(bytes(size))
    (home / "answer_times" / "gone").symlink_to(tmp_path / "nowhere")
    rows = kept_rows()
    assert rows == [
        ("answer_times", f"1 MB in {home}"),
        ("c", f"3 MB in {home / 'models'}"),
        ("repacked", f"2 MB in {home / 'models'}"),
        ("to delete it all", f"rm -r '{home}'"),
    ]
    subprocess.run(rows[-1][1], shell=True, check=True)
    assert kept_rows() == [("nothing", "outside the folders that you name")]


def test_models_kept_elsewhere_are_listed_and_deleted_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("POTSTILL_MODELS", str(tmp_path / "disk"))
    (tmp_path / "disk" / "engine").mkdir(parents=True)
    (tmp_path / "cache" / "potstill" / "matplotlib").mkdir(parents=True)
    assert [name for name, _ in kept_rows()] == ["matplotlib", "engine", "to delete it all"]
    assert kept_rows()[-1][1] == f"rm -r {tmp_path / 'cache' / 'potstill'} {tmp_path / 'disk'}"


def test_a_library_that_is_missing_is_named_with_its_extra():
    assert doctor.installed_version("no-such-library", "serve") == "not installed; pip install 'potstill[serve]'"


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("kill -ILL $$", "dies of signal 4 when it is used: it was compiled for another CPU"),
        ("echo 'OSError: libcudart.so.12: no such file' >&2; exit 1", "cannot be loaded: OSError: libcudart.so.12: no such file"),
    ],
)
def test_a_llama_cpp_that_dies_is_asked_in_a_process_of_its_own(tmp_path, script, failure):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    answer = ask_llama(str(python))
    assert answer == LlamaAnswer(None, failure)
    (problem,) = llama_problems(answer)
    assert problem.startswith(f"llama-cpp-python {failure}; compile it for this machine with: pip install ")


def test_a_build_that_fits_the_machine_has_no_problem(no_driver):
    assert list(llama_problems(LlamaAnswer(BUILD))) == []


def test_a_gpu_that_the_build_cannot_use_is_a_problem_with_the_command_that_helps(monkeypatch):
    monkeypatch.setattr(doctor, "fitting_backend", lambda: "CUDA")
    (problem,) = llama_problems(LlamaAnswer(BUILD))
    assert problem.startswith(
        'there is a driver for a GPU, and llama-cpp-python computes on the CPU only; CMAKE_ARGS="-DGGML_CUDA=on"'
    )
    assert list(llama_problems(LlamaAnswer(CUDA))) == []


def test_a_build_that_finds_no_gpu_is_a_problem(no_driver):
    assert list(llama_problems(LlamaAnswer(replace(CUDA, gpus=())))) == [
        "llama-cpp-python has CUDA but finds no device; check the driver"
    ]


def test_a_build_for_an_older_cpu_is_a_problem(no_driver, monkeypatch):
    monkeypatch.setattr(doctor, "cpu", lambda: ("A CPU", ["avx2", "avx512f"]))
    (problem,) = llama_problems(LlamaAnswer(replace(BUILD, cpu_features=("AVX2",))))
    assert problem.startswith("llama-cpp-python makes no use of this CPU's AVX512, which makes it slow; compile it here with: pip ")


def test_little_memory_a_folder_that_cannot_be_written_and_threads_that_spin_are_problems(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemAvailable: 500000 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setenv("POTSTILL_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (99.0, 1.0, 1.0))
    memory, folder, busy, spinning = machine_problems()
    assert memory == "only 512 MB of memory are free: stop other programs, or take the smallest teacher"
    assert folder == (
        f"models cannot be kept in {tmp_path / 'models'}: {tmp_path} is not writable; name another folder in POTSTILL_MODELS"
    )
    assert busy.startswith("other programs keep the cores busy (load 99.0 on ")
    assert spinning.startswith("OMP_WAIT_POLICY is active: ")


def test_without_problems_it_says_so():
    assert Checkup({"machine": [("CPU", "x")]}, []).as_text() == "machine\n  CPU  x\n\nproblems\n  - none found"
