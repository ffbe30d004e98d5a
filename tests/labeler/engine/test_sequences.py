"""One sequence where a context of many cannot be made, and what the person is told. What it draws: labeler.engine.test_llama.py."""

import subprocess
import sys

import pytest

from potstill.labeler.config import LocalConfig
from potstill.labeler.engine.llama import EngineConfig, LlamaEngine, NoContextError
from potstill.labeler.teacher import AnswerSpec, Identity, PathRequest
from potstill.labeler.teachers.local import LocalTeacher

pytestmark = pytest.mark.slow

READING = AnswerSpec("cot", ("positive", "negative"), "Opinion:", "Sentiment:", temperature=0.5, max_rationale_tokens=6)
ASKS = [PathRequest(str(i), f"Post: {i} up\nOpinion:", (0, 1)) for i in range(6)]
STATED = LocalConfig(n_threads=1, n_batch=512, n_live_paths=24, flash_attention=False)


class Demanding(LlamaEngine):
    """Stands for a model that llama.cpp opens with few sequences only."""

    most = 1

    def start(self, config: EngineConfig) -> None:
        if config.n_sequences > self.most:
            raise NoContextError(f"at most {self.most} sequences")
        super().start(config)


def drawn(engine: LlamaEngine, config: LocalConfig, told: list[str], n_times: int = 1) -> list:
    teacher = LocalTeacher(engine, Identity("tiny", "d", "d", engine.build()), config, told.append)
    results = [list(teacher.answer("Posts:\n", 0, ASKS, READING, 0)) for _ in range(n_times)]
    teacher.close()
    return [(path.text_id, path.path, path.rationale) for path in sorted(results[-1], key=lambda p: (p.text_id, p.path))]


@pytest.mark.parametrize("kind", ["dense", "recurrent", "hybrid", "sliding"])
def test_a_model_that_demands_one_sequence_gets_it_and_that_is_said_once(tiny_models, kind):
    told: list[str] = []
    paths = drawn(Demanding(tiny_models[kind]), STATED, told, n_times=2)
    assert told == ["drawing paths one at a time in a context of one sequence, which is slower: at most 1 sequences"]
    assert paths == drawn(LlamaEngine(tiny_models[kind]), STATED, told)


def test_a_model_that_cannot_even_be_measured_with_many_sequences_is_drawn_from(tiny_models, monkeypatch):
    monkeypatch.setattr("potstill.labeler.engine.autotune.is_busy", lambda: False)
    told: list[str] = []
    paths = drawn(Demanding(tiny_models["dense"]), LocalConfig(n_threads=1), told)
    assert told == [
        "measuring how this machine draws paths fastest",
        "drawing paths one at a time in a context of one sequence, which is slower: at most 1 sequences",
    ]
    assert len(paths) == 2 * len(ASKS)


def test_parallel_1_is_one_at_a_time_without_a_measurement(tiny_models):
    told: list[str] = []
    paths = drawn(LlamaEngine(tiny_models["dense"]), LocalConfig(n_threads=1, n_live_paths=1), told, n_times=2)
    assert told == ["drawing paths one at a time in a context of one sequence, which is slower: --parallel 1"]
    assert paths == drawn(LlamaEngine(tiny_models["dense"]), STATED, told)


def test_fewer_paths_at_once_are_tried_before_one_at_a_time(tiny_models):
    told: list[str] = []
    engine = Demanding(tiny_models["dense"])
    engine.most = 10
    paths = drawn(engine, STATED, told, n_times=2)
    assert told == ["drawing 3 paths at once, which is slower than more: at most 10 sequences"]
    assert paths == drawn(LlamaEngine(tiny_models["dense"]), STATED, told)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.teachers.local import LocalConfig, LocalTeacher
from potstill.labeler.teacher import AnswerSpec, Identity, PathRequest

engine = LlamaEngine(Path(sys.argv[1]))
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 400_000_000, resource.RLIM_INFINITY))
spec = AnswerSpec("cot", ("positive", "negative"), "Opinion:", "Sentiment:", 0.5, max_rationale_tokens=400)
requests = [PathRequest(str(i), f"Post: up {i}\\nOpinion:", tuple(range(8))) for i in range(64)]
config = LocalConfig(n_threads=1, n_batch=512, n_live_paths=64, flash_attention=False)
teacher = LocalTeacher(engine, Identity("smollm2", "d", "d", engine.build()), config, print)
print(type(next(iter(teacher.answer("Posts:\\n", 0, requests, spec, 0)))).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's memory is Linux's")
def test_a_machine_without_the_memory_for_all_paths_draws_fewer_at_once(smollm2, repository):
    command = [sys.executable, "-c", LITTLE_MEMORY, str(smollm2)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told, path = done.stdout.splitlines()
    assert told.startswith("drawing 8 paths at once, which is slower than more: ")
    assert path == "TeacherPath"
