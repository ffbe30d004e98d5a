"""`potstill bench label`: how fast the teacher labels on this machine, next to its peers."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from potstill.commands.console.progress import progress
from potstill.commands.options.teacher import GpuLayersType
from potstill.labeler.bench.config import PARTS, LabelBenchConfig
from potstill.labeler.config import LocalConfig
from potstill.models.devices import GpuLayers
from potstill.workflows.example_files import DEMO_EXAMPLE, example_folder


@click.command("label")
@click.option("--n", type=click.IntRange(min=1), default=LabelBenchConfig.n, show_default=True, help="Texts to label.")
@click.option("--only", default="", metavar="PARTS", help=f"Some of: {', '.join(PARTS)}.  [default: all]")
@click.option("--server", type=click.Path(path_type=Path), help="Path of the program llama-server, to measure it too.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of every part.  [default: all usable]")
@click.option(
    "--gpu-layers",
    type=GpuLayersType(),
    default=LabelBenchConfig().local.n_gpu_layers,
    show_default=True,
    help="Layers of our engine on the GPU; the peers compute on the CPU.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of a table.")
def command(n: int, only: str, server: Path | None, threads: int | None, gpu_layers: GpuLayers, as_json: bool) -> None:
    """Label texts of the example with the embedded teacher: our engine, and its peers, in turns.

    The peers are a loop of llama-cpp-python's `create_completion`, llama.cpp's own server, and llama.cpp's bare prompt processing.
    """
    from potstill.labeler.bench.run import bench

    parts = tuple(part.strip() for part in only.split(",") if part.strip())
    local = LocalConfig(n_gpu_layers=gpu_layers)
    config = LabelBenchConfig(n=n, parts=parts, server=server, threads=threads, local=local)
    with progress("bench", "texts", timed=True) as show:
        report = bench(example_folder(DEMO_EXAMPLE), config, show)
    click.echo(msgspec.json.encode(report.figures) if as_json else report.as_text())
