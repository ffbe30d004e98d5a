"""Options of every command that opens a bundle and answers with it."""

from __future__ import annotations

import click

from potstill.serve.http.config import ServeConfig

# every configuration has the same defaults, and this file of one loads no onnxruntime
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=ServeConfig.workers,
    help="Texts answered at the same time.  [default: usable cores]",
)

trust_option = click.option(
    "--trust", is_flag=True, default=ServeConfig.trust, help="Open the bundle whatever operators and tokenizer parts are in it."
)
