"""`potstill serve` with a teacher behind the server, for the texts on which a bundle should not answer alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from potstill.contract.bundle import Manifest, read_files, read_golden, read_manifest
from potstill.contract.errors import FormatError, MissingExtraError, UserError
from potstill.contract.fallback.audit import AuditFile
from potstill.contract.questions.head import check_one_question
from potstill.contract.questions.questionnaire import as_single
from potstill.contract.task import Task
from potstill.contract.texts import Text, read_texts
from potstill.serve.http.config import AuditSettings, BundleSpec, ServeConfig, TeacherLimits, TeacherLink, parse_bundle_spec
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.run import serve
from potstill.workflows.fallback.config import FallbackConfig, ProcessConfig
from potstill.workflows.fallback.keeper import TeacherKeeper

N_POOL = 96  # texts of a file on which a teacher is calibrated, evenly spaced: more of them only lengthen the start
_SERVE, _LIMITS = ServeConfig(), TeacherLimits()


@dataclass(frozen=True)
class PoolTexts:
    """Known texts of a bundle, on which a teacher's preference for single labels is measured."""

    texts: list[Text]
    prior: list[float] | None  # share of each label, in the task's order; None: unknown
    task_digest: str  # of the task that the bundle was made for


def serve_with_teacher(
    bundles: Sequence[str],
    task_file: str | Path,
    teacher: FallbackConfig,
    config: ServeConfig = _SERVE,
    limits: TeacherLimits = _LIMITS,
    audit: AuditSettings | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve bundles, and send the texts on which one abstains to a teacher in a process of its own.

    Args:
        bundles: at least one folder, or `NAME=FOLDER`; the teacher answers for those with the task's labels.
        task_file: the task that the teacher decides.
        teacher: which teacher.
        config: where to listen, and with how many processes.
        limits: how long and how often the teacher is asked.
        audit: which share of all texts is sent to the teacher as well, and where both answers are kept; None: none.
        announce: called with one line, with the address, once connections are accepted.
    Raises:
        FormatError: if the task or the pool is malformed, or no bundle has the task's labels.
        MissingExtraError: if what asks teachers is not installed.
        UserError: if the teacher cannot be opened; else as :func:`potstill.serve.run.serve`.
    """
    for module in ("scipy", "httpx" if teacher.is_address else "llama_cpp"):  # the server itself needs neither
        if find_spec(module) is None:
            raise MissingExtraError(module, "label")
    task, log = as_single(task_file, "a teacher behind a server"), ServerLog()
    specs = [replace(spec, trust=spec.trust or config.trust) for spec in map(parse_bundle_spec, bundles)]
    pool = _pool(specs, task, Path(task_file))
    if teacher.pool is not None:
        texts = read_texts(teacher.pool, target=task.input.target).texts
        pool = replace(pool, texts=texts[:: max(1, len(texts) // N_POOL)])
    if pool.task_digest != task.digest:
        log.line(f"note: {task_file} has changed since the bundle was made: the teacher decides by what it says now")
    settings = ProcessConfig("", -1, teacher, task, pool.texts, pool.prior, limits.concurrency)
    if audit is not None:
        AuditFile(Path(audit.file), audit.max_bytes).close()  # what is wrong with it is said before a model is loaded
    with TeacherKeeper(settings, log) as keeper:
        link = TeacherLink(
            socket=keeper.socket,
            labels=task.label_names,
            target=task.input.target,
            wait_ms=limits.wait_ms,
            concurrency=limits.concurrency,
            per_minute=limits.per_minute,
            audit=audit,
        )
        serve(specs, replace(config, teacher=link), announce)


def _pool(specs: Sequence[BundleSpec], task: Task, task_file: Path) -> PoolTexts:
    """The golden texts of the first bundle with the task's labels; raises FormatError or UserError if there is none."""
    found: list[Manifest] = []
    for spec in specs:
        files = read_files(spec.folder, spec.trust)
        manifest = read_manifest(files)
        found.append(manifest)
        if manifest.heads is None and set(manifest.labels) == set(task.label_names) and manifest.target == task.input.target:
            shares = manifest.label_shares
            prior = None if shares is None else [shares[name] for name in task.label_names]
            texts = [Text(row.text, target=row.target) for row in read_golden(files) if row.text.strip()]
            if not texts:
                raise UserError(f"{spec.folder}: has no golden text that is not empty, so a teacher cannot be calibrated on them")
            return PoolTexts(texts, prior, manifest.provenance.task_digest)
    if all(manifest.heads is not None for manifest in found):
        check_one_question(specs[0].folder, found[0], "a teacher behind a server")
    labels = "; ".join(f"{', '.join(one.labels)} {'with' if one.target else 'without'} a target" for one in found)
    raise FormatError(
        task_file,
        "labels",
        f"are {', '.join(task.label_names)} {'with' if task.input.target else 'without'} a target; the bundles answer {labels}: "
        "give the task that a bundle was made for",
    )
