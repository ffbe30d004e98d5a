"""A Ray cluster: connect to the one that RAY_ADDRESS names, or start one here; and hand rows to a pool of actors.

Scheduling, transport and what is done again when an actor or a machine is lost are Ray's. Its usage statistics are off
(`telemetry.py`), and a cluster that is started here listens on the loopback alone.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import ray.data

from potstill.contract.errors import UserError

MAX_ATTEMPTS = 4  # for a row whose actor is lost; one that ends each of them would else never end
NOWHERE = "http://127.0.0.1:9"  # where nothing listens
STORE_BYTES = 256 << 20  # of a cluster that is started here


@dataclass(frozen=True)
class ClusterConfig:
    """How work is spread."""

    actors: int = 1
    threads_per_actor: int = 1  # so many CPUs of the cluster an actor takes
    gpus_per_actor: float = 0.0  # likewise


@contextmanager
def connected(config: ClusterConfig) -> Iterator[None]:
    """Connect to a cluster that ends with the block if it was started for it.

    Raises:
        UserError: if it is too small for the actors.
    """
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of arguments in its store, which the driver holds to the end
    started = not ray.is_initialized()
    wanted = config.actors * config.threads_per_actor
    if started:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not os.environ.get("RAY_ADDRESS"):
            here = {"include_dashboard": False, "object_store_memory": STORE_BYTES, "_node_ip_address": "127.0.0.1"}
            quiet |= {"num_cpus": wanted, **here}
            with _without_plain_http(), _without_stderr():
                ray.init(**quiet)
        else:
            with _without_stderr():
                ray.init(**quiet)
    try:
        for kind, need in (("CPU", wanted), ("GPU", config.actors * config.gpus_per_actor)):
            there = ray.cluster_resources().get(kind, 0)
            if there < need:
                raise UserError(f"the cluster has {there:g} {kind}s; {config.actors} actors need {need:g}")
        yield
    finally:
        if started:
            ray.shutdown()


def mapped(
    rows: Sequence[dict[str, Any]], actor: type, arguments: Sequence[Any], config: ClusterConfig
) -> Iterator[dict[str, Any]]:
    """What the actors make of each row, as they finish; an actor that is lost is replaced, and its row given to another.

    Args:
        rows: of simple values; each is handed over by itself, so that none waits for a slow one.
        actor: a class whose call takes a batch of one row, a list for each column, and returns likewise.
        arguments: of its construction; they are sent to each machine once.
        config: how many actors, and how large.
    """
    if not rows:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the last argument, whose values have no other place in Ray 2.60
        found = ray.data.from_items(list(rows), override_num_blocks=len(rows)).map_batches(
            _Started,
            fn_constructor_args=(actor, [ray.put(tuple(arguments))]),  # a reference in a list stays one, which a new actor finds
            compute=ray.data.ActorPoolStrategy(size=min(config.actors, len(rows))),
            num_cpus=config.threads_per_actor,
            num_gpus=config.gpus_per_actor or None,
            batch_size=1,
            ray_remote_args_fn=_attempts,
        )
    yield from found.iter_rows()


class _Started:
    """An actor whose arguments are fetched where it starts."""

    def __init__(self, actor: type, arguments: list[Any]) -> None:
        """Args: actor, the class; arguments, a reference to them."""
        if os.environ.get("http_proxy") == NOWHERE:
            del os.environ["http_proxy"]
        self._actor = actor(*ray.get(arguments[0]))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the actor makes of a batch."""
        made: dict[str, Any] = self._actor(batch)
        return made


def _attempts() -> dict[str, int]:
    """How often an actor, and a row of it, is tried again."""
    return {"max_restarts": MAX_ATTEMPTS, "max_task_retries": MAX_ATTEMPTS}


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Nothing is printed to stderr in this block, by C++ either, where Ray says at what level it logs; its errors are raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _without_plain_http() -> Iterator[None]:
    """Programs that start in this block reach nothing but this machine over plain HTTP, and forget that in actors of ours.

    Even with its usage statistics off, Ray's dashboard asks the metadata servers of clouds on which it runs (2.60).
    """
    before = {name: os.environ.get(name) for name in ("http_proxy", "no_proxy")}
    os.environ |= {"http_proxy": NOWHERE, "no_proxy": ",".join(filter(None, [before["no_proxy"], "127.0.0.1,localhost"]))}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
