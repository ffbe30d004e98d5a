"""`potstill serve`: bundles over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from potstill.commands.options.configs import config_of
from potstill.commands.options.fallback import audit_settings, check_fallback, fallback_options
from potstill.serve.http.config import Limits, ServeConfig, TeacherLimits
from potstill.workflows.fallback.config import FallbackConfig


@click.command("serve")
@click.argument("bundles", metavar="[NAME=]BUNDLE...", nargs=-1, required=True)
@click.option("--host", default=ServeConfig.host, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=ServeConfig.port,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--unix", type=click.Path(path_type=Path), help="Listen at this path instead of an address.")
@click.option(
    "--processes",
    type=click.IntRange(min=1, max=256),
    default=ServeConfig.processes,
    show_default=True,
    help="Processes on the one port; one that dies is replaced.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=ServeConfig.workers,
    help="Texts answered at the same time by each process.  [default: usable cores, shared out]",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    help="File of API keys, one a line; clients must send one.  [default: those of the variable POTSTILL_KEYS, if any]",
)
@click.option("--insecure", is_flag=True, default=ServeConfig.insecure, help="Allow other machines without a key.")
@click.option(
    "--trust", is_flag=True, default=ServeConfig.trust, help="Open the bundles whatever operators and tokenizer parts are in them."
)
@click.option(
    "--allow-host",
    metavar="NAME",
    multiple=True,
    help="Name by which requests may call a server that needs no key, beside localhost; may be given several times.",
)
@click.option(
    "--allow-origin",
    metavar="ORIGIN",
    multiple=True,
    help="Origin of web pages that may read replies, such as https://example.org, or * for any; may be given several times.",
)
@click.option(
    "--timeout-ms",
    type=click.FloatRange(min=0, min_open=True),
    default=Limits.timeout_ms,
    show_default=True,
    help="Milliseconds that a request waits for its answer, unless it states its own limit.",
)
@click.option(
    "--grace-s",
    type=click.FloatRange(min=0),
    default=Limits.grace_s,
    show_default=True,
    help="Seconds to finish accepted requests when the server is stopped.",
)
@click.option(
    "--receipt-s",
    type=click.FloatRange(min=0, min_open=True),
    default=Limits.receipt_s,
    show_default=True,
    help="Seconds within which a request must have arrived completely.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(min=1),
    default=Limits.max_connections,
    show_default=True,
    help="Connections that each process accepts at the same time.",
)
@click.option(
    "--otlp", metavar="URL", help="Send traces to this collector, such as http://127.0.0.1:4318/v1/traces.  [default: nowhere]"
)
@fallback_options
def command(bundles: tuple[str, ...], timeout_ms: float, teacher: str | None, task: Path | None, **options: Any) -> None:
    """Answer over HTTP with bundles; the first one answers where a request names none.

    POST /classify, POST /predict (as text-embeddings-inference), /v2 (the Open Inference Protocol), POST /v1/decisions (as decision
    models), and a page to try it at /. SIGTERM finishes what was accepted and stops; SIGHUP loads new versions of the bundles. With
    --teacher, texts on which a bundle abstains, or that are unfamiliar to it, are answered by the teacher, if it does so in time.
    """
    from potstill.serve.http.telemetry.logs_and_traces import ServerLog  # these load onnxruntime, which the help does without
    from potstill.serve.run import serve
    from potstill.workflows.serving import serve_with_teacher

    wait = {"timeout_ms": timeout_ms, "max_timeout_ms": max(timeout_ms, Limits.max_timeout_ms)}
    config = config_of(ServeConfig, {**options, "limits": config_of(Limits, {**options, **wait})})
    kept = audit_settings(teacher, options["audit"], options["audit_to"], options["audit_max"])
    if teacher is None or task is None:
        check_fallback(teacher, task)
        serve(bundles, config, announce=ServerLog().line)
        return
    own = {name: options[f"teacher_{name}"] for name in ("model", "api", "paths", "threads", "memory_mb", "pool")}
    limits = TeacherLimits(options["teacher_wait_ms"], options["teacher_concurrency"], options["teacher_per_minute"])
    serve_with_teacher(bundles, task, FallbackConfig(teacher, **own), config, limits, kept, announce=ServerLog().line)
