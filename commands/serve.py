"""`potstill serve`: a bundle over HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from serve.run import ServeConfig, serve


@click.command("serve")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--host", default=ServeConfig.host, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=ServeConfig.port,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=ServeConfig.workers, help="Texts answered at once.  [default: usable cores]"
)
@click.option("--insecure", is_flag=True, default=ServeConfig.insecure, help="Let other machines in, without a key.")
def command(bundle: Path, host: str, port: int, workers: int | None, insecure: bool) -> None:
    """Answer over HTTP with BUNDLE: POST /predict, GET /livez, GET /readyz."""
    config = ServeConfig(host=host, port=port, workers=workers, insecure=insecure)
    serve(bundle, config, announce=lambda line: click.echo(line, err=True))
