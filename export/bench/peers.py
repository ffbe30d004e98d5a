"""The peers of a bundle in a benchmark: its float graph, a pipeline of optimum over that graph, and one of transformers over torch.

Each pipeline runs in a process of its own (`peer_process.py`), so that libraries share neither threads nor memory.
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
from potstill.contract.errors import MissingExtraError, UserError
from potstill.contract.promises.familiarity import FAMILIARITY_FILE
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.child_process import environment
from potstill.contract.texts import Text
from potstill.export.bench.peer_process import PipelineReply, PipelineRequest
from potstill.export.graph import export_float, has_optimum
from potstill.export.tokenizer.files import CONFIG_FILE
from potstill.serve.bench.bundle_report import Facts
from potstill.serve.runtime.scorer import open_scorer

FLOAT, OPTIMUM, TORCH = "float", "optimum", "torch"
CLOSE_S = 10  # time for a process to end by itself


class PipelineProcess:
    """A pipeline in a process of its own, idle between calls."""

    def __init__(self, name: str, folder: Path, max_tokens: int, threads: int) -> None:
        """Start the process. Args: name, OPTIMUM or TORCH; folder, that its library loads; max_tokens, where texts are cut."""
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
        """Time each answer, one after the other, in milliseconds; raises UserError if the process has failed."""
        return self._ask(texts, batch=False).times_ms

    def facts(self, texts: Sequence[Text]) -> Facts:
        """Start-up time, memory, size and effect of batches; raises UserError if the process has failed."""
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
            self._process.kill()  # it has nothing to save
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
                pass  # the process has ended; its last words follow
        if not line:
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines() if self._process.stderr else []
            raise UserError(f"{self._folder}: the {self.name} pipeline failed: {''.join(said[-1:])}")
        return msgspec.json.decode(line, type=PipelineReply)


@contextmanager
def peers_of(
    checkpoint: Path, bundle: Path, scratch: Path, threads: int
) -> Iterator[tuple[dict[str, Path], list[PipelineProcess]]]:
    """Open the peers of a bundle: (its float bundle by name, the running pipelines).

    Args:
        checkpoint: the checkpoint that the bundle was exported from.
        bundle: the bundle.
        scratch: an empty folder for the float graph.
        threads: of each pipeline.
    Raises:
        FormatError: if the bundle was changed, or the checkpoint cannot be exported.
        MissingExtraError: if optimum is not installed.
        UserError: if a pipeline cannot start.
    """
    if not has_optimum():
        raise MissingExtraError("optimum", "optimum")
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
            pipelines[-1].times_ms([Text(first.text, target=first.target)])  # wait until it is up
        yield {FLOAT: float_bundle}, pipelines


def _float_bundle(model: onnx.ModelProto, bundle: Path, folder: Path) -> Path:
    """Copy the bundle with the float graph in place of its own, and with this machine's answers to the golden texts."""
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("fast*", SIGNATURE_FILE, FAMILIARITY_FILE))
    (folder / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    manifest = msgspec.structs.replace(read_manifest(bundle), variant=FLOAT, cascade=None)
    write_manifest(folder, manifest)
    scorer = open_scorer(folder / MODEL_FILE, folder / TOKENIZER_FILE, manifest, len(manifest.labels))
    rows = [Golden(text=row.text, target=row.target, probs=scorer.probs(row.text, row.target)) for row in read_golden(folder)]
    write_golden(folder, rows)
    write_sums(folder)
    return folder
