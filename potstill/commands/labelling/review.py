"""`potstill review`: pages on which people label, correct and steer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from potstill.commands.console.errors import tell
from potstill.commands.console.progress import progress
from potstill.commands.options.configs import config_of
from potstill.review.queue.dealing import QUEUES, ReviewSettings
from potstill.review.server.place import ReviewPlace

FILE = click.Path(path_type=Path)


@click.command("review")
@click.argument("store", type=FILE)
@click.option("--task", type=FILE, required=True, help="Task file that the texts were labelled for.")
@click.option(
    "--person",
    "people",
    multiple=True,
    default=ReviewSettings.people,
    show_default=True,
    help="Who labels; may be given several times. Everybody gets an address of their own.",
)
@click.option(
    "--queue",
    type=click.Choice(QUEUES),
    default=ReviewSettings.queue,
    show_default=True,
    help="Order of the texts: random, for gold on which scores are honest, or those first whose label is worth most.",
)
@click.option(
    "--overlap",
    default=ReviewSettings.overlap,
    show_default=True,
    help="Share of each person's texts that all people are shown, 0 to 1, where there are several.",
)
@click.option("--seed", default=ReviewSettings.seed, show_default=True, help="Random seed of the order.")
@click.option("--run", "number", type=int, help="Number of the run whose answers are shown.  [default: the newest]")
@click.option("--teacher", help="Teacher that is asked again after a change of the task.  [default: the run's]")
@click.option(
    "--host",
    default=ReviewPlace.host,
    show_default=True,
    help="Address to listen on; any but loopback is open to other machines.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=ReviewPlace.port,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--allow-host",
    metavar="NAME",
    multiple=True,
    help="Name by which browsers may call the server, beside localhost; may be given several times.",
)
def command(store: Path, task: Path, number: int | None, teacher: str | None, **options: Any) -> None:
    """Label the texts of a STORE in a browser: one at a time, by keyboard, alone or with others.

    Every label is on disk before the page answers, in the STORE itself; `potstill labels gold` writes them as a file. The printed
    addresses are for one browser each, once; SIGHUP prints new ones.
    """
    from potstill.workflows.people import reviewing

    reviewing.review(
        store,
        task,
        config_of(ReviewSettings, options),
        config_of(ReviewPlace, options),
        run=number,
        teacher=teacher,
        tell=tell,
        starting=partial(progress, "start"),
    )
