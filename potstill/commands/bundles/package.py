"""`potstill package`: a bundle for another server or hub."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.export.layouts.package import LAYOUTS, PackageConfig, package


@click.command("package")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), required=True, help="What it is written for.")
@click.option(
    "--image", help="Name of the container image, for docker and kserve.  [default: the task's, with the bundle's digest]"
)
@click.option("--sign", metavar="KEY", help="Private key (elliptic curve, PEM) to sign the folder with, as model.sig.")
def command(bundle: Path, folder: Path, layout: str, image: str | None, sign: str | None) -> None:
    """Write BUNDLE into FOLDER in another layout, with its card, a bill of materials, sums, and a signature if a key is given."""
    click.echo(package(bundle, folder, PackageConfig(layout, image, sign)).as_text())
