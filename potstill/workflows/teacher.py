"""Which teacher a workflow asks: how it is opened, which mode suits it, and which worked examples it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from potstill.contract.errors import UserError
from potstill.contract.project import TEACHER
from potstill.contract.task import Task
from potstill.contract.texts import Text
from potstill.labeler.candidates import is_narrowed
from potstill.labeler.config import AUTO, LabelConfig, RunMode, with_mode
from potstill.labeler.encoder_at_hand import encoder_at_hand
from potstill.labeler.prompts.variants import Nearest, chosen_by_similarity
from potstill.labeler.run.second_teacher import DEFAULT_RULE, UncertainRule
from potstill.labeler.teacher import APIS, DECIDING, Teacher
from potstill.labeler.teachers.local import LocalConfig, LocalTeacher
from potstill.labeler.teachers.opening import PACKS, Pack, is_server, open_local, open_teacher
from potstill.models.catalog import best_mode
from potstill.models.devices import AUTO_LAYERS, GpuLayers
from potstill.models.memory import KV_TYPES, KvType

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class TeacherConfig:
    """Which teacher answers, and how much of this machine it may use.

    Raises:
        UserError: naming the first value that is not allowed.
    """

    name: str = TEACHER  # of the catalog, or a GGUF file, or the address of an OpenAI-compatible server
    pack: Pack = "auto"  # type to re-pack the weights to; auto: the catalog's advice
    threads: int | None = None  # CPU threads; None: measured
    parallel: int | None = None  # sampled paths that are decoded at once; None: measured
    gpu_layers: GpuLayers = "auto"  # layers on the GPU; auto: all that fit, none where the installed llama.cpp has no GPU
    kv_type: KvType = "f16"  # of the cached keys and values: q8_0 takes about half the memory
    model: str | None = None  # id of a server's model; None: its only one
    concurrency: int | None = None  # requests at a server at once; None: the default of ServerConfig
    api: str = "auto"  # how a server is asked: /completions, /chat/completions, Ollama's own, or one that decides; auto: found out
    engine: Engine = "local"  # ray: the same teacher in many actors of a Ray cluster
    actors: int = 1  # with ray
    threads_per_actor: int = 1  # with ray, in place of `threads`

    def __post_init__(self) -> None:
        """Refuse what opens no teacher; raises UserError."""
        if self.pack not in PACKS:
            raise UserError(f"pack is {self.pack!r}; allowed: {', '.join(PACKS)}")
        layers: object = self.gpu_layers
        if layers != AUTO_LAYERS and not (isinstance(layers, int) and not isinstance(layers, bool) and layers >= 0):
            raise UserError(f"gpu_layers is {layers!r}; it must be {AUTO_LAYERS} or a whole number, at least 0")
        if self.kv_type not in KV_TYPES:
            raise UserError(f"kv_type is {self.kv_type!r}; allowed: {', '.join(KV_TYPES)}")
        if self.api not in APIS:
            raise UserError(f"api is {self.api!r}; allowed: {', '.join(APIS)}")
        concurrency: object = self.concurrency  # a project file may hold anything
        if concurrency is not None and not (isinstance(concurrency, int) and concurrency >= 1):
            raise UserError(f"concurrency is {concurrency!r}; it must be a whole number, at least 1")


@dataclass(frozen=True)
class ThenConfig:
    """A second teacher, asked only about the texts of which the first one is not certain after calibration."""

    teacher: TeacherConfig
    rule: UncertainRule = DEFAULT_RULE
    mode: RunMode | Literal["auto"] = "auto"  # auto: its own best known mode, else `cot`
    n_paths: int | None = None  # a text; None: as many as the first teacher

    def label_config(self, first: LabelConfig) -> tuple[LabelConfig, str]:
        """How this teacher is asked: as the first one, but for mode and paths; and a line about the mode, else it is empty."""
        config = replace(first, mode=self.mode, n_paths=self.n_paths or first.n_paths, n_variants=None)
        return with_best_mode(config, self.teacher.name)


@dataclass(frozen=True)
class ThenSettings:
    """A second teacher, as the console's options and a project's `[label]` table name it."""

    then: str | None = None  # None: there is none
    then_share: float = UncertainRule.share
    then_below: float | None = UncertainRule.below
    then_mode: RunMode | Literal["auto"] = ThenConfig.mode
    then_paths: int | None = None


def second_teacher(settings: ThenSettings, first: TeacherConfig) -> ThenConfig | None:
    """The second teacher of the settings, which uses this machine as the first one does; None if none is named.

    Raises:
        UserError: if a value is out of range.
    """
    if settings.then is None:
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


def with_best_mode(config: LabelConfig, teacher: str) -> tuple[LabelConfig, str]:
    """The configuration with the teacher's best known mode in place of `auto`, and a line that says so; else it is empty."""
    if config.mode != AUTO:
        return config, ""
    best = best_mode(teacher)
    settled = with_mode(config, best)
    reason = f"the best one measured for {teacher}" if best else f"no mode has been measured for {teacher}"
    return settled, f"mode {settled.mode}: {reason}; choose another with --mode, or compare them with: potstill task tune"


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
