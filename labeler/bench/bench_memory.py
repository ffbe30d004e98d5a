"""How much memory labelling takes beyond the model file and the KV cache: a fresh process for every type of weights."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.contract.texts import Text, write_texts
from potstill.labeler.bench.memory import Memory, Order
from potstill.labeler.teachers.local_teacher import LocalConfig
from potstill.labeler.teachers.opening import Pack, packed_file

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
