"""The prompts that tuning compares: all combinations that differ for this task and teacher."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product

from potstill.contract.errors import UserError
from potstill.contract.task import Task
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import EXAMPLES, TEMPLATES, LabelConfig
from potstill.labeler.prompts.variants import prompt_variants
from potstill.labeler.teacher import DECIDING, Identity


@dataclass(frozen=True)
class TuneConfig:
    """What tuning tries."""

    examples: tuple[str, ...] = EXAMPLES
    templates: tuple[str, ...] = TEMPLATES
    cot: bool = True  # whether answers with a rationale are tried too
    rewrites: int = 0  # guidelines that the teacher writes, each to be tried as a wording
    n_examples_per_label: int = LabelConfig.n_examples_per_label
    seed: int = LabelConfig.seed
    backbone: str = DeriveConfig.backbone  # the encoder for nearest examples and smoothing

    def __post_init__(self) -> None:
        """Check the number of rewrites; raises UserError."""
        if self.rewrites < 0:
            raise UserError(f"rewrites is {self.rewrites}; it must be at least 0")


def prompt_choices(task: Task, config: TuneConfig, identity: Identity, *, similar: bool) -> tuple[list[LabelConfig], list[str]]:
    """The prompts to try, in mode `direct`, and a line for each wanted template that cannot be used.

    Prompts that would only repeat another one are left out without a line: no guideline where the task has none, `given` beside
    `diverse` where no label has more examples than a prompt shows.

    Args:
        similar: whether examples can be chosen by similarity.
    Raises:
        UserError: if nothing is left to try, or the number of examples per label is below 1.
    """
    _prompt(config, "plain", "diverse", guideline=True)  # refuses a bad number of examples even where no prompt is left
    guidelines = (True, False) if task.guideline.strip() else (True,)
    wanted, left_out = [], []
    own_form = identity.api == "chat" or identity.api in DECIDING  # the server writes the prompt, so there is one template
    examples_of_task = ["diverse"] if identity.api in DECIDING else _example_choices(task, config)
    for template in ("plain",) if own_form else config.templates:
        if template == "chat" and (reason := _no_chat(task, config, identity)):
            left_out.append(f"template chat: {reason}")
            continue
        for examples, guideline in product(examples_of_task, guidelines):
            if examples == "nearest" and (template == "chat" or own_form or not similar):
                continue
            wanted.append(_prompt(config, template, examples, guideline=guideline))
    if not wanted:
        raise UserError("nothing is left to try: examples nearest needs template plain and an encoder; " + "; ".join(left_out))
    return wanted, left_out


def prompt_name(config: LabelConfig) -> str:
    """`plain, no guideline, nearest`."""
    return f"{config.template}, {'' if config.guideline else 'no '}guideline, {config.examples}"


def paths_name(config: LabelConfig) -> str:
    """`direct, 4 paths`; for a cascade, the direct answers, further paths, and their share of the texts."""
    if config.mode == "cascade":
        return f"cascade, {config.n_direct} + {config.n_paths} for {config.uncertain:.0%}"
    return f"{config.mode}, {config.n_paths} path{'s' * (config.n_paths > 1)}"


def _example_choices(task: Task, config: TuneConfig) -> list[str]:
    """The wanted ways to choose examples that differ, in the order of EXAMPLES."""
    counts = Counter(example.label for example in task.examples)
    same = max(counts.values(), default=0) <= config.n_examples_per_label
    if not task.examples:
        return ["diverse"]
    return [
        name for name in EXAMPLES if name in config.examples and not (name == "given" and same and "diverse" in config.examples)
    ]


def _no_chat(task: Task, config: TuneConfig, identity: Identity) -> str:
    """The reason why the teacher's chat template cannot be used; empty if it can."""
    try:
        prompt_variants(task, _prompt(config, "chat", "diverse", guideline=True), identity)
    except UserError as error:
        return str(error).partition(";")[0]
    return ""


def _prompt(config: TuneConfig, template: str, examples: str, *, guideline: bool) -> LabelConfig:
    """The configuration for one prompt, in mode `direct`."""
    return LabelConfig(
        mode="direct",
        template=template,  # type: ignore[arg-type]  # one of TEMPLATES
        examples=examples,  # type: ignore[arg-type]  # one of EXAMPLES
        guideline=guideline,
        n_examples_per_label=config.n_examples_per_label,
        seed=config.seed,
    )
