"""Which teacher a workflow asks: how it is opened, which mode suits it, and which worked examples it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from potstill.contract.errors import UserError
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.candidates import is_narrowed
from potstill.labeler.config import LabelConfig, LocalConfig, UncertainRule
from potstill.labeler.encoder_at_hand import encoder_at_hand
from potstill.labeler.prompts.variants import Nearest, chosen_by_similarity
from potstill.labeler.teacher import DECIDING, Teacher
from potstill.labeler.teachers.config import TeacherConfig, ThenConfig, ThenSettings
from potstill.labeler.teachers.local import LocalTeacher
from potstill.labeler.teachers.opening import is_server, open_local, open_teacher


def second_teacher(settings: ThenSettings, first: TeacherConfig) -> ThenConfig | None:
    """The second teacher of the settings, which uses this machine as the first one does; None if none is named.

    Raises:
        UserError: if a value is out of range, or something is said of a second teacher and none is named.
    """
    if settings.then is None:
        if settings != ThenSettings():
            raise UserError("a share, bound, mode or paths are given for a second teacher, but no teacher; name one with --then")
        return None
    teacher = TeacherConfig(settings.then)
    if not is_server(settings.then):
        shared = {name: getattr(first, name) for name in ("threads", "parallel", "gpu_layers", "kv_type")}
        teacher = replace(teacher, **shared)
    rule = UncertainRule(settings.then_share, settings.then_below)
    return ThenConfig(teacher, rule, settings.then_mode, settings.then_paths)


def configured_teacher(config: TeacherConfig, tell: Callable[[str], None], *, deterministic: bool = False) -> Teacher:
    """The teacher, loaded or connected; raises as :func:`potstill.labeler.teachers.opening.open_teacher` does."""
    if config.engine == "ray":
        return _on_cluster(config, tell, deterministic)
    return open_teacher(
        config.name,
        pack=config.pack,
        config=_local_config(config, deterministic),
        model=config.model,
        concurrency=config.concurrency,
        api=config.api,
        tell=tell,
    )


def _on_cluster(config: TeacherConfig, tell: Callable[[str], None], deterministic: bool) -> Teacher:
    """The same teacher here, for its identity, and in the actors of a cluster; raises UserError for a server."""
    from potstill.contract.system.cluster import ClusterConfig  # here, since they import ray
    from potstill.labeler.run.path_collector import N_BLOCK
    from potstill.labeler.teachers.cluster import ClusterTeacher

    if is_server(config.name):
        raise UserError(f"{config.name} is a server, which spreads its own work; leave out --engine ray, and raise --concurrency")
    single = replace(config, engine="local", threads=config.threads_per_actor)
    here = configured_local_teacher(single, tell, deterministic=deterministic)
    opener = partial(configured_local_teacher, single, _silent, deterministic=deterministic)
    uses_gpu = here.identity.gpu_layers > 0
    cluster = ClusterConfig(config.actors, config.threads_per_actor, float(uses_gpu))
    return ClusterTeacher(here, opener, cluster, N_BLOCK)


def _silent(_line: str) -> None:
    """What an actor would tell; the driver has told it."""


def configured_local_teacher(config: TeacherConfig, tell: Callable[[str], None], *, deterministic: bool = False) -> LocalTeacher:
    """The teacher, loaded into this process.

    Raises:
        UserError: if it is a server, whose speed cannot be measured from here; else as
            :func:`potstill.labeler.teachers.opening.open_local`.
    """
    if is_server(config.name):
        raise UserError(f"a dry run is for a teacher in this process; for {config.name}, label a few texts and see")
    return open_local(config.name, pack=config.pack, config=_local_config(config, deterministic), tell=tell)


def _local_config(config: TeacherConfig, deterministic: bool) -> LocalConfig:
    """How much a teacher in this process runs at once."""
    return LocalConfig(
        config.threads,
        n_live_paths=config.parallel,
        deterministic=deterministic,
        n_gpu_layers=config.gpu_layers,
        kv_type=config.kv_type,
    )


def with_possible_mode(config: LabelConfig, note: str, teacher: Teacher) -> tuple[LabelConfig, str]:
    """The configuration and the line of :func:`with_best_mode`, with mode `direct` where the server writes nothing.

    Args:
        note: the line; empty if the mode was stated, which then stays.
    """
    if not note or teacher.identity.api not in DECIDING:
        return config, note
    return replace(config, mode="direct"), f"mode direct: {teacher.identity.name} decides at once (api {teacher.identity.api})"


def nearest_worked_examples(
    task: Task, texts: Sequence[Text], config: LabelConfig, backbone: str, tell: Callable[[str], None]
) -> Nearest | None:
    """What each text has of its own by similarity: candidates, worked examples; None where it has neither.

    A first look of the teacher narrows without an encoder too, which a line then says.

    Raises:
        UserError: if the backbone is unknown or not on this machine, or a library that embeds is not installed.
    """
    narrow = is_narrowed(task, config)
    if config.examples != "nearest" and not narrow:
        return None
    encoder, reason = encoder_at_hand(backbone)
    if encoder is None:
        if not (narrow and config.first_look):
            raise UserError(reason)
        tell(f"the teacher's first look alone narrows the labels, without similarity: {reason}")
        return chosen_by_similarity(task, texts, config, None)
    what = f"{config.candidates} of {len(task.labels)} labels" if narrow else "the worked examples"
    tell(f"choosing {what} for {len(texts)} texts with {encoder.name}")
    return chosen_by_similarity(task, texts, config, encoder)
