"""Memory that labelling takes, in a process of its own: `python -m potstill.labeler.bench.memory ORDER`, an :class:`Order` as JSON.

It does what `potstill label` does in mode `cot`: it opens the teacher, draws every path into a store, derives soft labels and
writes them. Then it prints one line of JSON.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.soft_label import write_soft_labels
from potstill.contract.system.child_process import environment
from potstill.contract.task import load_task
from potstill.contract.texts import Text, read_texts, write_texts
from potstill.labeler.aggregation.soft_labels import soft_labels
from potstill.labeler.config import LabelConfig
from potstill.labeler.run import label
from potstill.labeler.store.label_store import LabelStore
from potstill.labeler.teachers.local_teacher import LocalConfig
from potstill.labeler.teachers.opening import Pack, open_local, packed_file

STATUS = Path("/proc/self/status")


class Order(msgspec.Struct, frozen=True):
    """What to label."""

    task: str  # file
    texts: str  # file
    teacher: str
    pack: Pack
    n_paths: int
    n_threads: int
    n_batch: int | None  # tokens of one decode; None is measured, as the next two are
    n_live_paths: int | None
    flash_attention: bool | None


class Memory(msgspec.Struct, frozen=True):
    """The printed line."""

    peak_bytes: int  # the most that was ever resident, pages of the mapped model file among it
    file_bytes: int  # of the model file
    cache_bytes: int  # of the KV cache

    @property
    def over_mb(self) -> float:
        """Millions of bytes beyond model file and KV cache."""
        return (self.peak_bytes - self.file_bytes - self.cache_bytes) / 1e6


def main(order: Order) -> None:
    """Measure this process; it must do nothing else. It keeps no measurement of an earlier one: so does a first start."""
    task = load_task(Path(order.task))
    texts = read_texts(Path(order.texts), labels=task.label_names, target=task.input.target).texts
    file_bytes = packed_file(order.teacher, order.pack).path.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        config = LocalConfig(order.n_threads, order.n_batch, order.n_live_paths, order.flash_attention, cache=Path(folder))
        teacher = open_local(order.teacher, pack=order.pack, config=config)
        try:
            store_path = Path(folder) / "labels.db"
            report = label(task, texts, store_path, teacher, LabelConfig(mode="cot", n_paths=order.n_paths))
            with LabelStore.read(store_path) as store:
                write_soft_labels(Path(folder) / "soft_labels.parquet", soft_labels(store, report.run))
            memory = Memory(peak_bytes(), file_bytes, teacher.cache_bytes)
        finally:
            teacher.close()
    sys.stdout.buffer.write(msgspec.json.encode(memory) + b"\n")


def peak_bytes() -> int:
    """The most memory of this process that was ever in RAM; where the system does not say, what it says of its ancestors too."""
    if STATUS.exists():
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Order))


N_TEXTS = 16  # labelled in the process; more are never in work at once


def measure_memory(
    task: Path, texts: list[Text], teacher: str, pack: Pack, n_paths: int, n_threads: int, local: LocalConfig
) -> Memory:
    """Label some texts in a fresh process and ask it.

    Args:
        task: the task's file.
        local: how much runs at once.
    Raises:
        UserError: if that process fails.
    """
    packed_file(teacher, pack)  # so that re-packing, which takes memory too, is done before
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.jsonl"
        file.write_bytes(write_texts(texts[:N_TEXTS]))
        at_once = local.n_batch, local.n_live_paths, local.flash_attention
        order = Order(str(task), str(file), teacher, pack, n_paths, n_threads, *at_once)
        command = [sys.executable, "-m", "potstill.labeler.bench.memory", msgspec.json.encode(order).decode()]
        done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"a fresh process could not label with {teacher}: {''.join(last)}")
    return msgspec.json.decode(done.stdout, type=Memory)
