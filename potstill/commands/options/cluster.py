"""Options of the commands that can spread their work over a cluster."""

from __future__ import annotations

import click

LOCAL, RAY = "local", "ray"

engine_option = click.option(
    "--engine",
    type=click.Choice([LOCAL, RAY]),
    default=LOCAL,
    show_default=True,
    help="What spreads the work: processes here, or Ray's actors, on the cluster that RAY_ADDRESS names or else on this machine.",
)
actors_option = click.option(
    "--actors", type=click.IntRange(min=1), default=1, show_default=True, help="With --engine ray: how many share the work."
)
threads_per_actor_option = click.option(
    "--threads-per-actor", type=click.IntRange(min=1), default=1, show_default=True, help="With --engine ray: CPUs of each actor."
)
