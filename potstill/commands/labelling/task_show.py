"""`potstill task show`: the exact prompt of a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.commands.options.configs import config_of
from potstill.commands.options.labelling import backbone_option, mode_option, prompt_options
from potstill.contract.errors import UserError
from potstill.contract.project import TEACHER
from potstill.labeler.config import LabelConfig, with_mode
from potstill.labeler.teacher import Identity

if TYPE_CHECKING:
    from potstill.contract.task import Task
    from potstill.contract.texts import Text
    from potstill.labeler.prompts.variants import Nearest

PLAIN = Identity("", "", "", "")  # a plain prompt asks nothing of the teacher


@click.command("show")
@click.argument("task", type=click.Path(path_type=Path))
@click.argument("text")
@click.option("--target", help="What the text is about, where the task has targets.")
@mode_option
@click.option("--variant", type=click.IntRange(0), default=0, show_default=True, help="Number of the prompt variant, from 0.")
@click.option(
    "--direct",
    "n_direct",
    default=LabelConfig.n_direct,
    show_default=True,
    help="Variants that answer at once in mode cascade; the others reason.",
)
@prompt_options
@click.option("--seed", default=LabelConfig.seed, show_default=True, help="Random seed of the variants.")
@click.option(
    "--teacher",
    default=TEACHER,
    show_default=True,
    help="Teacher whose chat template to use: a name of `potstill models list`, or a GGUF file.",
)
@backbone_option
def command(task: Path, text: str, target: str | None, variant: int, teacher: str, backbone: str, **options: Any) -> None:
    """Print the exact prompt that the teacher of TASK reads for TEXT.

    A line on stderr says what kind of prompt it is and where the label is read. Of a plain prompt only the opening token is
    missing, which the vocabulary puts first. Of a task of several questions it is what they share, and then what follows it for
    each of them by itself; or where they are asked one by one, the prompt of each.
    """
    from potstill.contract.questions.questionnaire import Questionnaire, load_any_task
    from potstill.contract.texts import Text
    from potstill.labeler.prompts.check import identity_of
    from potstill.labeler.prompts.several import asked_alone, shared_prompts, shares_prompt
    from potstill.models.catalog import best_mode, find_teacher
    from potstill.models.gguf import read_header

    loaded, shown = load_any_task(task), Text(text, target=target)
    if loaded.input.target != bool(target):
        needs = "asks about a target (input.target); state one with --target"
        raise UserError(f"{task}: {'has no targets (input.target is false); leave out --target' if target else needs}")
    config = with_mode(config_of(LabelConfig, options), best_mode(teacher))
    identity = identity_of(read_header(find_teacher(teacher).path)) if config.template == "chat" else PLAIN
    if isinstance(loaded, Questionnaire) and shares_prompt(config):
        for prompt, ends in shared_prompts(loaded, variant, config, shown):
            click.echo("\n".join((prompt, *ends)))
            click.echo(f"the text is read once; then each of the last {len(ends)} lines follows it by itself", err=True)
        asked = {ask.key: ask.task for ask in asked_alone(loaded)}
    elif isinstance(loaded, Questionnaire):
        asked = {ask.key: ask.task for ask in loaded.asks()}
    else:
        asked = {"": loaded}
    for key, one in asked.items():
        if key:
            click.echo(f"{key}:", err=True)
        _show(one, variant, config, identity, shown, backbone)


def _show(task: Task, variant: int, config: LabelConfig, identity: Identity, shown: Text, backbone: str) -> None:
    """Print one prompt."""
    from potstill.labeler.prompts.check import asked_how
    from potstill.labeler.prompts.variants import one_variant

    nearest = _nearest(task, shown, config, backbone)
    made = one_variant(task, variant, config, identity, nearest)
    begin = identity.bos if identity.adds_bos else ""
    click.echo(begin + made.prefix + made.prompt(shown) + made.spec.tail)
    click.echo(asked_how(made.spec, identity), err=True)


def _nearest(task: Task, text: Text, config: LabelConfig, backbone: str) -> Nearest | None:
    """What the text has of its own by similarity: candidates, worked examples; None where it has neither."""
    from potstill.labeler.candidates import is_narrowed
    from potstill.labeler.prompts.variants import chosen_by_similarity
    from potstill.models.catalog import find_backbone

    if config.examples != "nearest" and not is_narrowed(task, config):
        return None
    return chosen_by_similarity(task, [text], config, find_backbone(backbone))
