"""How a labelling run asks the teacher: mode, number of paths, prompts, when a text has enough paths, and how much runs at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from potstill.contract.errors import UserError
from potstill.models.devices import GpuLayers
from potstill.models.memory import KvType

RunMode = Literal["cot", "direct", "cascade"]
Template = Literal["plain", "chat"]
ThoughtChoice = Literal["auto", "off", "on"]
Pack = Literal["auto", "as-is", "Q8_0", "Q4_0"]
ExampleChoice = Literal["given", "diverse", "nearest"]
RUN_MODES: tuple[str, ...] = get_args(RunMode)
AUTO = "auto"  # the teacher's best known mode
MODES: tuple[str, ...] = (AUTO, *RUN_MODES)
TEMPLATES: tuple[str, ...] = get_args(Template)
EXAMPLES: tuple[str, ...] = get_args(ExampleChoice)
THOUGHTS: tuple[str, ...] = get_args(ThoughtChoice)
PACKS: tuple[str, ...] = get_args(Pack)
BOUND = 0.75  # bound of --adaptive without a number


@dataclass(frozen=True)
class LabelConfig:
    """Settings of a run. The defaults are those of arXiv 2212.11311: 8 paths, temperature 0.5, 2 worked examples per label.

    Raises:
        UserError: if a value is out of range, or two values contradict each other.
    """

    mode: RunMode | Literal["auto"] = "auto"  # auto: the teacher's best known mode, else `cot`; see with_mode
    n_paths: int = 8  # per text; in mode `cascade` per uncertain text, after its direct answers
    n_variants: int | None = None  # prompts with different worked examples; None: one per path in `direct`, one in `cot`
    n_direct: int = 4  # mode `cascade`: prompt variants that every text is asked directly
    uncertain: float = 0.3  # mode `cascade`: share of the texts, the least certain ones, that the teacher reasons about
    bound: float = 0.0  # above 0: a text gets no further path once its leading label is the leader with this probability
    n_examples_per_label: int = 2
    candidates: int = 10  # labels that one text is asked among at most, where the task has more than 20; 0: always all labels
    first_look: int = 0  # labels in a group that the teacher is asked about first, to find candidates; 0: by similarity alone
    examples: ExampleChoice = "diverse"
    guideline: bool = True  # whether the prompt holds the task's guideline
    template: Template = "plain"
    thoughts: ThoughtChoice = "auto"  # in a conversation: whether rationales are the model's own thoughts; auto: where it has them
    max_thought_tokens: int = 256  # of one thought; those of a rationale in the prompt's own words are `max_rationale_tokens`
    temperature: float = 0.5
    max_rationale_tokens: int = 40
    seed: int = 0
    deterministic: bool = False  # bit-identical paths on the same machine, also after a kill, at some cost in speed
    new_run: bool = False  # start a run beside the stored ones although its settings differ

    def __post_init__(self) -> None:
        """Refuse settings that cannot draw a path."""
        for name, value in (
            ("paths", self.n_paths),
            ("variants", self.n_variants or self.n_paths),
            ("direct answers", self.n_direct),
            ("examples per label", self.n_examples_per_label),
            ("max thought tokens", self.max_thought_tokens),
        ):
            if value < 1:
                raise UserError(f"{name} is {value}; it must be at least 1")
        if self.candidates < 0 or self.candidates == 1:
            raise UserError(f"candidates is {self.candidates}; it must be at least 2 labels, or 0 to ask about all of them")
        if self.first_look < 0 or self.first_look == 1:
            raise UserError(f"first look is {self.first_look}; it must be at least 2 labels, or 0 for similarity alone")
        if not self.temperature > 0:  # this way round, NaN is refused too
            raise UserError(f"temperature is {self.temperature}; it must be above 0")
        if not (self.bound == 0 or 0.5 < self.bound < 1):
            raise UserError(f"the adaptive bound is {self.bound}; it must be above 0.5 and below 1")
        if not 0 <= self.uncertain <= 1:
            raise UserError(f"uncertain is {self.uncertain}; it must be a share from 0 to 1")
        for name, choice, allowed in (
            ("mode", self.mode, MODES),
            ("template", self.template, TEMPLATES),
            ("examples", self.examples, EXAMPLES),
            ("thoughts", self.thoughts, THOUGHTS),
        ):
            if choice not in allowed:
                raise UserError(f"{name} is {choice!r}; allowed: {', '.join(allowed)}")
        if self.mode == "direct" and self.n_paths > self.direct_variants:
            raise UserError(
                f"mode direct samples nothing, so {self.n_paths} paths need {self.n_paths} variants "
                f"(found {self.direct_variants}); raise the variants, lower the paths, or use mode cot"
            )
        if self.template == "chat" and self.examples == "nearest":
            raise UserError(
                "examples nearest needs template plain: in a conversation the worked examples come before all texts; "
                "use template plain, or examples diverse"
            )

        if self.thoughts == "on" and (self.template == "plain" or self.mode == "direct"):
            raise UserError(
                "thoughts on needs template chat and a mode that reasons; use template chat with mode cot, or thoughts auto"
            )

    @property
    def direct_variants(self) -> int:
        """Number of prompt variants that are asked directly."""
        return {"direct": self.n_variants or self.n_paths, "cascade": self.n_direct}.get(self.mode, 0)

    @property
    def cot_variants(self) -> int:
        """Number of prompt variants whose paths reason first."""
        return 0 if self.mode == "direct" else self.n_variants or 1

    @property
    def most_paths(self) -> int:
        """Largest number of paths that one text can get."""
        return self.n_paths + (self.n_direct if self.mode == "cascade" else 0)


def with_mode(config: LabelConfig, best: RunMode | None, *, decides: bool = False) -> LabelConfig:
    """The configuration with a real mode in place of `auto`.

    Args:
        best: the mode in which the teacher is known to label best; None: not measured, so `cot` as in the paper.
        decides: whether the teacher answers questions at once and writes nothing, so that only `direct` is possible.
    """
    return replace(config, mode="direct" if decides else best or "cot") if config.mode == AUTO else config


@dataclass(frozen=True)
class ServerConfig:
    """Concurrency, timeouts and retries."""

    concurrency: int = 4  # requests in flight at once
    timeout_s: float = 300.0  # for one reply: a large model on a CPU, with other requests queued before, takes minutes
    connect_timeout_s: float = 10.0
    n_tries: int = 6  # of one request, including the first
    first_wait_s: float = 0.5  # before the second try; doubled for each further try
    longest_wait_s: float = 60.0  # between two tries, even if the server's Retry-After asks for more


@dataclass(frozen=True)
class UncertainRule:
    """Which texts count as uncertain: a share of them, or all below a probability.

    Raises:
        UserError: if a value is out of range.
    """

    share: float = 0.2  # of the texts that the first teacher labelled, the least certain ones
    below: float | None = None  # instead of the share: calibrated probability of the most probable label

    def __post_init__(self) -> None:
        """Refuse what chooses nothing sensible; raises UserError."""
        if not 0 < self.share <= 1:
            raise UserError(f"then share is {self.share}; it must be a share of the texts above 0, up to 1")
        if self.below is not None and not 0 < self.below <= 1:
            raise UserError(f"then below is {self.below}; it must be a probability above 0, up to 1")


DEFAULT_RULE = UncertainRule()


@dataclass(frozen=True)
class LocalConfig:
    """How much runs at once. A value of None is measured on this machine before the first path is drawn."""

    n_threads: int | None = None  # None: all usable cores or half of them, whichever is faster
    n_batch: int | None = None  # tokens per decode
    n_live_paths: int | None = None  # sampled paths that are decoded together
    flash_attention: bool | None = None  # for sampled paths; prompts alone always use it, and so does a cache that is not f16
    cache: Path | None = None  # folder for decoded prefixes and measurements; None keeps nothing
    deterministic: bool = False  # every call starts from an empty context, with a fixed schedule
    n_gpu_layers: GpuLayers = "auto"  # layers on the GPU; auto: all that fit, none where llama.cpp has no GPU
    kv_type: KvType = "f16"  # of the cached keys and values


@dataclass(frozen=True)
class PlanConfig:
    """For how long a plan is made, and how long it may measure.

    Raises:
        UserError: if a value is out of range.
    """

    hours: float
    measure_s: float = 60.0  # for all teachers together; a large one's first paths may take longer
    n_paths: int | None = None  # a text; None: as many as fit
    n_enough: int = 1000  # texts from which better labels are preferred to more of them

    def __post_init__(self) -> None:
        """Refuse a time in which nothing can be done; raises UserError."""
        for name, value in (("hours", self.hours), ("measure seconds", self.measure_s), ("enough texts", self.n_enough)):
            if not value > 0:
                raise UserError(f"{name} is {value:g}; it must be above 0")
