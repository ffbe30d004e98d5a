"""Benchmark labelling against its peers: the one-by-one loop, llama.cpp's own server, and llama.cpp's plain prompt processing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.system.machine import cpu_name, usable_cores
from potstill.contract.task import load_task
from potstill.contract.texts import read_texts
from potstill.labeler.bench.adaptive_saving import Saving, measure_saving
from potstill.labeler.bench.config import PACKS, PARTS, LabelBenchConfig
from potstill.labeler.bench.memory import Memory, measure_memory
from potstill.labeler.bench.own_engine import Limit, TeacherOpening, efficiency_part, label_part
from potstill.labeler.bench.peers import CompletionLoop, ServerPart, check_program
from potstill.labeler.bench.report import LabelBenchReport
from potstill.labeler.bench.turns import BenchPart, BenchProgress, OwnProcess, Turn, take_turns
from potstill.labeler.bench.workload import Workload, count_tokens
from potstill.labeler.config import BOUND, Pack
from potstill.labeler.engine.llama import LlamaEngine
from potstill.labeler.teacher import Identity
from potstill.labeler.teachers.opening import PackedFile, packed_file
from potstill.models import gguf

TASK_FILE, TEXTS_FILE, GOLD_FILE = "task.toml", "texts.jsonl", "gold.jsonl"  # of the example


def bench(example: Path, config: LabelBenchConfig, progress: BenchProgress | None = None) -> LabelBenchReport:
    """Label the first texts of an example with every part to be measured.

    Args:
        example: folder with task.toml, texts.jsonl and gold.jsonl.
    Raises:
        UserError: if a part is unknown, there are too few texts, or a peer fails.
        FormatError: if a file of the example is malformed.
    """
    _check(config)
    with ExitStack() as stack:
        # a cache of its own, so that no earlier measurement or decoded prefix is used
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = _Bench(example, config, {part: packed_file(config.teacher, pack) for part, pack in PACKS.items()}, cache)
        turns, server = bench.turns(progress)
        return LabelBenchReport(
            machine=cpu_name(),
            teacher=config.teacher,
            types=bench.types,
            n=config.n,
            n_paths=config.n_paths,
            threads=bench.threads,
            n_per_turn=config.n_per_turn,
            server=server,
            turns=turns,
            memory=bench.memory() if "memory" in config.chosen else {},
            saving=bench.saving(progress) if "adaptive" in config.chosen else None,
        )


class _Bench:
    """One run of the benchmark."""

    def __init__(self, example: Path, config: LabelBenchConfig, files: dict[str, PackedFile], cache: Path) -> None:
        """Read the example. Args: files, by part that runs `cot`; cache, folder for what our engine measures and decodes."""
        self._example, self._config, self._files = example, config, files
        self.threads = config.threads or usable_cores()
        self._local = replace(config.local, n_threads=self.threads, cache=cache)
        task = load_task(example / TASK_FILE)
        texts = read_texts(example / TEXTS_FILE, labels=task.label_names, target=task.input.target).texts
        if config.n > len(texts):
            raise UserError(f"--n is {config.n}; {example / TEXTS_FILE} holds {len(texts)} texts: at most that many")
        file = files["engine"]
        identity = Identity(file.source.name, file.digest, file.source.sha256, LlamaEngine.build())
        self._load = Workload(task, texts[: config.n], config.n_paths, identity)

    @property
    def types(self) -> dict[str, str]:
        """Type of most of the weights, by part."""
        found = {part: gguf.read_header(file.path).file_type or "unknown" for part, file in self._files.items()}
        shipped, default = found["same_file"], found["engine"]
        return {**found, "loop": shipped, "server": shipped, "direct": default, "one_variant": default, "limit": default}

    def turns(self, progress: BenchProgress | None) -> tuple[dict[str, list[Turn]], str]:
        """The turns of every part that takes them, and the server's fastest settings."""
        config = self._config
        with ExitStack() as stack:
            parts = [stack.enter_context(closing(part)) for part in self._parts()]
            for part in parts:
                part.warm_up()
            turns = take_turns(parts, config.n, config.n_per_turn, progress)
            best = [f"-fa {part.flash}, {part.n_in_flight} at once" for part in parts if isinstance(part, ServerPart)]
            return turns, "".join(best)

    def memory(self) -> dict[str, Memory]:
        """Memory by type of weights, the default packing's first."""
        config, types = self._config, self.types
        settings = config.n_paths, self.threads, config.local
        return {
            types[part]: measure_memory(self._example / TASK_FILE, self._load.texts, config.teacher, pack, *settings)
            for part, pack in PACKS.items()
        }

    def saving(self, progress: BenchProgress | None) -> Saving:
        """The saving of adaptive stopping on the example's gold texts."""
        task = self._load.task
        gold = read_texts(self._example / GOLD_FILE, labels=task.label_names, target=task.input.target).texts
        fixed = self._load.config("cot")
        with closing(self._opening().teacher()) as teacher:
            return measure_saving(task, gold, teacher, fixed, replace(fixed, bound=BOUND), progress)

    def _parts(self) -> Iterator[BenchPart]:
        """The parts that take turns, loaded one by one."""
        load, chosen, threads = self._load, self._config.chosen, self.threads
        shipped, default = self._files["same_file"].path, self._files["engine"].path
        counts = count_tokens(load, shipped)
        if "loop" in chosen:
            yield OwnProcess("loop", partial(CompletionLoop, load, counts, shipped, threads))
        for part, pack in PACKS.items():
            if part in chosen:
                yield OwnProcess(part, partial(label_part, part, load, self._opening(pack), "cot"))
        if "server" in chosen and self._config.server:
            yield ServerPart(load, counts, self._config.server, shipped, threads)
        if "direct" in chosen:
            yield OwnProcess("direct", partial(label_part, "direct", load, self._opening(), "direct"))
        if "efficiency" in chosen:
            yield OwnProcess("one_variant", partial(efficiency_part, load, self._opening(), default))
            yield OwnProcess("limit", partial(Limit, load, counts, default, threads))

    def _opening(self, pack: Pack = "auto") -> TeacherOpening:
        """How every benchmark part opens the teacher."""
        return TeacherOpening(self._config.teacher, self._local, pack)


def _check(config: LabelBenchConfig) -> None:
    """Refuse parts that cannot be measured, before anything is loaded."""
    for part in config.parts:
        if part not in PARTS:
            raise UserError(f"--only: there is no part {part!r}; the parts are {', '.join(PARTS)}")
    if config.server:
        check_program(config.server)
    elif "server" in config.chosen:
        raise UserError(
            "--only: the part 'server' needs --server, the path of llama-server (see benchmarks/teacher/build_llama_server)"
        )
