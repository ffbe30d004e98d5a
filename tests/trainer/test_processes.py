import os
import socket
import subprocess
import sys

from support.training_runs import a_task, gold_texts, toy_rows, write

from potstill.contract.checkpoint import read_student
from potstill.trainer.evaluation.evaluate import evaluate

SCRIPT = """
import sys
sys.path[:0] = [{repository!r}, {repository!r} + "/tests"]
import os
from pathlib import Path
from support.training_runs import QUICK, a_task
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
    write(tmp_path / "soft_labels.jsonl", toy_rows(120, a_task()))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(repository=str(repository), here=str(tmp_path), backbone=str(backbone)))
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
