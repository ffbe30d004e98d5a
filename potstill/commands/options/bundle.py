"""Options of every command that opens a bundle and answers with it."""

from __future__ import annotations

import click

from potstill.serve.offline.predict import PredictConfig

# every configuration has the same defaults
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=PredictConfig.workers,
    help="Texts answered at the same time.  [default: usable cores]",
)

trust_option = click.option(
    "--trust", is_flag=True, default=PredictConfig.trust, help="Open the bundle whatever operators and tokenizer parts are in it."
)
