"""Which teacher a run asks, which one it asks next, and how much of this machine they may use. Loads no llama.cpp, no numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from potstill.contract.errors import UserError
from potstill.contract.project import TEACHER
from potstill.labeler.config import AUTO, DEFAULT_RULE, PACKS, LabelConfig, Pack, RunMode, UncertainRule, with_mode
from potstill.labeler.teacher import APIS
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


def with_best_mode(config: LabelConfig, teacher: str) -> tuple[LabelConfig, str]:
    """The configuration with the teacher's best known mode in place of `auto`, and a line that says so; else it is empty."""
    if config.mode != AUTO:
        return config, ""
    best = best_mode(teacher)
    settled = with_mode(config, best)
    reason = f"the best one measured for {teacher}" if best else f"no mode has been measured for {teacher}"
    return settled, f"mode {settled.mode}: {reason}; choose another with --mode, or compare them with: potstill task tune"
