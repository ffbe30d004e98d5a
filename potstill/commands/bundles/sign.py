"""`potstill sign`: a signature over a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.export.layouts.package import sign_bundle


@click.command("sign")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Private key: elliptic curve, PEM, no password.")
def command(bundle: Path, key: Path) -> None:
    """Write a signature into BUNDLE, as model.sig; check it with: potstill verify BUNDLE --key PUBLIC."""
    sign_bundle(bundle, key)
    click.echo(f"{bundle}: signed ({SIGNATURE_FILE}); check it with: potstill verify {bundle} --key PUBLIC")
