"""Putting an application together from what was asked for."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from potstill.contract.errors import MissingExtraError
from potstill.serve.http.app import Application, Parts
from potstill.serve.http.hosting.bundle_registry import Bundles, Wanted
from potstill.serve.http.keys import read_keys
from potstill.serve.http.limits import Limits
from potstill.serve.http.telemetry.server_log import Journal
from potstill.serve.http.telemetry.server_metrics import Measures
from potstill.serve.http.telemetry.tracing import Tracer


def build(
    wanted: list[Wanted], limits: Limits, n_workers: int, keys: Path | None, otlp: str | None, measures: Measures | None = None
) -> Application:
    """An application over open, proved bundles.

    Args:
        wanted: the bundles, at least one.
        limits: what is accepted.
        n_workers: texts answered at once.
        keys: a file of keys; None: those of the environment.
        otlp: a collector's address for traces; None: nowhere.
        measures: the counts; None: of this process alone.
    Raises:
        UserError: if a bundle or the keys are refused, or the extra `otlp` is missing.
    """
    version, measures = program_version(), measures or Measures()
    return Application(
        Parts(
            bundles=Bundles.open(wanted),
            limits=limits,
            n_workers=n_workers,
            keys=read_keys(keys),
            journal=Journal(when_lost=measures.lost_lines.add),
            measures=measures,
            version=version,
            tracer=None if otlp is None else _tracer(otlp, version),
        )
    )


def program_version() -> str:
    """The version of potstill that is installed."""
    try:
        return metadata.version("potstill")
    except metadata.PackageNotFoundError:
        return "unknown"


def _tracer(endpoint: str, version: str) -> Tracer:
    """Where spans go; raises MissingExtraError."""
    try:
        from potstill.serve.http.telemetry.otlp import OtlpTracer  # loaded only where somebody wants spans
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "opentelemetry", "otlp") from error
    return OtlpTracer(endpoint, version)
