"""What a bundle is measured against: its own float graph, optimum's pipeline over that graph, and transformers' over torch.

Each peer answers in a process of its own (`peer_process.py`), so that no library's threads or memory are another's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import onnx

from potstill.contract.bundle import (
    MODEL_FILE,
    TOKENIZER_FILE,
    Golden,
    read_golden,
    read_manifest,
    verify_files,
    write_golden,
    write_manifest,
    write_sums,
)
from potstill.contract.errors import UserError
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.child_process import environment
from potstill.contract.texts import Text
from potstill.export.bench.peer_process import PipelineReply, PipelineRequest
from potstill.export.graph import export_float
from potstill.export.tokenizer.files import CONFIG_FILE
from potstill.serve.bench.times import Facts
from potstill.serve.runtime.scorer import open_scorer

FLOAT, OPTIMUM, TORCH = "float", "optimum", "torch"
CLOSE_S = 10  # for a process to end by itself


class PipelineProcess:
    """A pipeline in a process of its own, which waits between its turns."""

    def __init__(self, name: str, folder: Path, max_tokens: int, threads: int) -> None:
        """Start it. Args: name, OPTIMUM or TORCH; folder, that its library loads; threads, that it may use."""
        self.name, self._folder = name, folder
        self._start_s = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "potstill.export.bench.peer_process", name, str(folder), str(max_tokens), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )

    def times_ms(self, texts: Sequence[Text]) -> list[float]:
        """Milliseconds of each answer, one after the other; raises UserError if the process has failed."""
        return self._ask(texts, batch=False).times_ms

    def facts(self, texts: Sequence[Text]) -> Facts:
        """Start, memory, size and change with the batch; raises UserError if the process has failed."""
        told = self._ask(texts[:32], batch=True)
        size = sum(path.stat().st_size for path in self._folder.iterdir() if path.suffix in (".onnx", ".safetensors", ".json"))
        return Facts(told.first_answer_s - self._start_s, told.rss_bytes / 1e6, size, told.batch_change_max)

    def probs(self, texts: Sequence[Text]) -> list[list[float]]:
        """Probabilities of each text alone, in output order; raises UserError if the process has failed."""
        return self._ask(texts, batch=True).probs

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # it has nothing to put away
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _ask(self, texts: Sequence[Text], *, batch: bool) -> PipelineReply:
        """Send one line and read one."""
        stdin, stdout = self._process.stdin, self._process.stdout
        line = b""
        if stdin is not None and stdout is not None:
            try:
                stdin.write(msgspec.json.encode(PipelineRequest([(text.text, text.target) for text in texts], batch)) + b"\n")
                stdin.flush()
                line = stdout.readline()
            except BrokenPipeError:
                pass  # it has ended; what it said follows
        if not line:
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines() if self._process.stderr else []
            raise UserError(f"{self._folder}: the {self.name} pipeline failed: {''.join(said[-1:])}")
        return msgspec.json.decode(line, type=PipelineReply)


@contextmanager
def peers_of(
    checkpoint: Path, bundle: Path, scratch: Path, threads: int
) -> Iterator[tuple[dict[str, Path], list[PipelineProcess]]]:
    """The float bundle by its name, and the pipelines, for a bundle that was exported from this checkpoint.

    Args:
        checkpoint: the trainer's folder.
        bundle: its bundle.
        scratch: an empty folder for the float graph.
        threads: that each pipeline may use.
    Raises:
        FormatError: if the checkpoint cannot be exported.
        UserError: if the checkpoint is not the bundle's.
    """
    verify_files(bundle)
    manifest = read_manifest(bundle)
    (scratch / "graph").mkdir()
    model = export_float(checkpoint, scratch / "graph", manifest.max_tokens)
    float_bundle = _float_bundle(model, bundle, scratch / FLOAT)
    optimum = scratch / OPTIMUM
    optimum.mkdir()
    for path in checkpoint.iterdir():
        if path.suffix == ".json" or path.name == "vocab.txt":
            shutil.copyfile(path, optimum / path.name)
    for name in (TOKENIZER_FILE, CONFIG_FILE):
        shutil.copyfile(bundle / name, optimum / name)
    shutil.copyfile(float_bundle / MODEL_FILE, optimum / MODEL_FILE)
    first = read_golden(bundle)[0]
    with ExitStack() as stack:
        pipelines = []
        for name, folder in ((OPTIMUM, optimum), (TORCH, checkpoint)):
            pipelines.append(PipelineProcess(name, folder, manifest.max_tokens, threads))
            stack.callback(pipelines[-1].close)
            pipelines[-1].times_ms([Text(first.text, target=first.target)])  # it is up
        yield {FLOAT: float_bundle}, pipelines


def _float_bundle(model: onnx.ModelProto, bundle: Path, folder: Path) -> Path:
    """The bundle with the float graph in place of its own; golden texts have what this machine says of them."""
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("fast*", SIGNATURE_FILE))
    (folder / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    manifest = msgspec.structs.replace(read_manifest(bundle), variant=FLOAT, cascade=None)
    write_manifest(folder, manifest)
    scorer = open_scorer(folder / MODEL_FILE, folder / TOKENIZER_FILE, manifest, len(manifest.labels))
    rows = [Golden(text=row.text, target=row.target, probs=scorer.probs(row.text, row.target)) for row in read_golden(folder)]
    write_golden(folder, rows)
    write_sums(folder)
    return folder
