"""Measure the memory that labelling takes, in a process of its own: `python -m potstill.labeler.bench.memory JOB`.

JOB is a :class:`MemoryJob` as JSON. The process does what `potstill label` does in mode `cot`: it opens the teacher, draws every
path into a store, derives soft labels and writes them. Then it prints a :class:`Memory` as one line of JSON.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.soft_label import write_soft_labels
from potstill.contract.system.child_process import environment
from potstill.contract.system.memory import peak_resident_bytes
from potstill.contract.task import load_task
from potstill.contract.texts import Text, read_texts, write_texts
from potstill.labeler.aggregation.soft_labels import soft_labels
from potstill.labeler.config import LabelConfig, LocalConfig, Pack
from potstill.labeler.run.label import label
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teachers.opening import open_local, packed_file

N_TEXTS = 16  # labelled in the process; more are never in progress at once


class MemoryJob(msgspec.Struct, frozen=True):
    """What the process labels, and how."""

    task: str  # file
    texts: str  # file
    teacher: str
    pack: Pack
    n_paths: int
    n_threads: int
    n_batch: int | None  # tokens per decode; None is measured, as are the next two
    n_live_paths: int | None
    flash_attention: bool | None


class Memory(msgspec.Struct, frozen=True):
    """Memory of the labelling process."""

    peak_bytes: int  # peak resident memory, including pages of the mapped model file
    file_bytes: int  # of the model file
    cache_bytes: int  # of the KV cache

    @property
    def over_mb(self) -> float:
        """Memory beyond model file and KV cache, in units of 1,000,000 bytes."""
        return (self.peak_bytes - self.file_bytes - self.cache_bytes) / 1e6


def measure_memory(
    task: Path, texts: list[Text], teacher: str, pack: Pack, n_paths: int, n_threads: int, local: LocalConfig
) -> Memory:
    """Label some texts in a fresh process, and return its memory.

    Args:
        task: the task's file.
        local: how much runs at once.
    Raises:
        UserError: if that process fails.
    """
    packed_file(teacher, pack)  # re-pack before, because that takes memory too
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.jsonl"
        file.write_bytes(write_texts(texts[:N_TEXTS]))
        at_once = local.n_batch, local.n_live_paths, local.flash_attention
        job = MemoryJob(str(task), str(file), teacher, pack, n_paths, n_threads, *at_once)
        command = [sys.executable, "-m", "potstill.labeler.bench.memory", msgspec.json.encode(job).decode()]
        done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"a fresh process could not label with {teacher}: {''.join(last)}")
    return msgspec.json.decode(done.stdout, type=Memory)


def main(job: MemoryJob) -> None:
    """Measure this process, which must do nothing else. It starts with an empty cache, as a first start does."""
    task = load_task(Path(job.task))
    texts = read_texts(Path(job.texts), labels=task.label_names, target=task.input.target).texts
    file_bytes = packed_file(job.teacher, job.pack).path.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        config = LocalConfig(job.n_threads, job.n_batch, job.n_live_paths, job.flash_attention, cache=Path(folder), n_gpu_layers=0)
        teacher = open_local(job.teacher, pack=job.pack, config=config)
        try:
            store_path = Path(folder) / "labels.db"
            report = label(task, texts, store_path, teacher, LabelConfig(mode="cot", n_paths=job.n_paths))
            with LabelStore.read(store_path) as store:
                write_soft_labels(Path(folder) / "soft_labels.parquet", soft_labels(store, report.run))
            memory = Memory(peak_resident_bytes(), file_bytes, teacher.cache_bytes)
        finally:
            teacher.close()
    sys.stdout.buffer.write(msgspec.json.encode(memory) + b"\n")


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=MemoryJob))
