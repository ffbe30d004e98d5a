"""How a run asks: mode, number of paths, prompts, when to stop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from potstill.contract.errors import UserError

RunMode = Literal["cot", "direct", "cascade"]
Template = Literal["plain", "chat"]
Examples = Literal["given", "diverse", "nearest"]
RUN_MODES: tuple[str, ...] = get_args(RunMode)
AUTO = "auto"  # the teacher's best known mode
MODES: tuple[str, ...] = (AUTO, *RUN_MODES)
TEMPLATES: tuple[str, ...] = get_args(Template)
EXAMPLES: tuple[str, ...] = get_args(Examples)


@dataclass(frozen=True)
class LabelConfig:
    """How a run asks. The defaults are those of arXiv 2212.11311: 8 paths, temperature 0.5, 2 worked examples per label."""

    mode: RunMode | Literal["auto"] = "auto"  # auto: the teacher's best known mode, else `cot`; see with_mode
    n_paths: int = 8  # of each text; in mode `cascade` of the uncertain ones, after their direct answers
    n_variants: int | None = None  # prompts with different worked examples; None: one per path in `direct`, one in `cot`
    n_direct: int = 4  # mode `cascade`: prompt variants that every text is asked directly
    uncertain: float = 0.3  # mode `cascade`: share of the texts, the least certain ones, that the teacher reasons about
    bound: float = 0.0  # above 0: no further path once a text's leading label is the leader with this probability
    n_examples_per_label: int = 2
    examples: Examples = "diverse"
    guideline: bool = True  # whether the prompt holds the task's guideline
    template: Template = "plain"
    temperature: float = 0.5
    max_rationale_tokens: int = 40
    seed: int = 0
    deterministic: bool = False  # the same paths bit for bit, also after a kill, at some cost in speed
    new_run: bool = False  # start beside the runs that the store holds, although they differ

    @property
    def direct_variants(self) -> int:
        """Prompt variants that are asked directly."""
        return {"direct": self.n_variants or self.n_paths, "cascade": self.n_direct}.get(self.mode, 0)

    @property
    def cot_variants(self) -> int:
        """Prompt variants whose paths reason first."""
        return 0 if self.mode == "direct" else self.n_variants or 1

    @property
    def most_paths(self) -> int:
        """Paths of one text, at most."""
        return self.n_paths + (self.n_direct if self.mode == "cascade" else 0)


def with_mode(config: LabelConfig, best: RunMode | None) -> LabelConfig:
    """The configuration with a real mode in place of `auto`.

    Args:
        best: the mode in which the teacher is known to label best; None: not measured, so `cot` as in the paper.
    """
    return replace(config, mode=best or "cot") if config.mode == AUTO else config


def check_config(config: LabelConfig) -> None:
    """Refuse settings that cannot draw a path; raises UserError."""
    for name, value in (
        ("paths", config.n_paths),
        ("variants", config.n_variants or config.n_paths),
        ("direct answers", config.n_direct),
        ("examples per label", config.n_examples_per_label),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1")
    if not config.temperature > 0:
        raise UserError(f"temperature is {config.temperature}; it must be above 0")
    if not (config.bound == 0 or 0.5 < config.bound < 1):
        raise UserError(f"the adaptive bound is {config.bound}; it must be above 0.5 and below 1")
    if not 0 <= config.uncertain <= 1:
        raise UserError(f"uncertain is {config.uncertain}; it must be a share from 0 to 1")
    if config.mode == "direct" and config.n_paths > config.direct_variants:
        raise UserError(
            f"mode direct samples nothing, so {config.n_paths} paths need {config.n_paths} variants "
            f"(found {config.direct_variants}); raise the variants, lower the paths, or use mode cot"
        )
    for name, value_of, allowed in (
        ("mode", config.mode, MODES),
        ("template", config.template, TEMPLATES),
        ("examples", config.examples, EXAMPLES),
    ):
        if value_of not in allowed:
            raise UserError(f"{name} is {value_of!r}; allowed: {', '.join(allowed)}")
    if config.template == "chat" and config.examples == "nearest":
        raise UserError(
            "examples nearest needs template plain: a conversation has its worked examples before all texts; "
            "use template plain, or examples diverse"
        )
