"""Render every chat template of llama.cpp's sources with the example task, and compare with what `transformers` renders.

    pip download --no-binary :all: --no-deps llama-cpp-python==0.3.36 -d SOME_FOLDER
    python benchmarks/teacher/chat_templates.py SOME_FOLDER/llama_cpp_python-0.3.36.tar.gz

For each template: its kind or the reason of a refusal, how the prompt of mode `direct` relates to `transformers`, and its last 60
characters. Related in one of these ways:

    equal      the string of apply_chat_template(..., continue_final_message=True) with the cue as the beginning of the last answer
    continues  the string of apply_chat_template(..., add_generation_prompt=True), and more: a thought is closed, a channel named
    alone      transformers does not render this conversation

The program fails if an answer, direct or after a thought, would begin inside an open thought, by a list of marks of its own.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from transformers.utils import chat_template_utils

from potstill.contract.errors import UserError
from potstill.contract.task import load_task
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import chat, plain
from potstill.labeler.prompts.template import TEXT, ChatTemplate, Form, read_template
from potstill.labeler.prompts.variants import one_variant
from potstill.labeler.teacher import Identity

TASK = load_task(Path(__file__).parents[2] / "examples" / "support_tickets" / "task.toml")
ASKED = Text("The parcel came on Monday and the kettle hums.", "0")
RATIONALE = "It is about a delivery."
BOS, EOS = "<BOS>", "<EOS>"
SHOWN = 60  # characters
# Opening and closing marks of thoughts, as the models' own pages and templates have them; looked for independently of potstill.
THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis", "<|end|>"),
    ("<|think|>", "<|end|>"),
    ("<|open|>think", "<|close|>think"),
    ("to=self", "<|eom|>"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
)


class Still(datetime):
    """The day on which potstill renders, so that both sides write the same date."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        """The first of January 2025."""
        return datetime(2025, 1, 1, tzinfo=tz)


def templates(sdist: Path) -> dict[str, str]:
    """Name and source of every template in an sdist or its unpacked folder."""
    where = "vendor/llama.cpp/models/templates"
    if sdist.is_dir():
        return {path.stem: path.read_text(encoding="utf-8") for path in sorted(sdist.glob(f"**/{where}/*.jinja"))}
    found: dict[str, str] = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            if where in member.name and member.name.endswith(".jinja") and (file := archive.extractfile(member)):
                found[Path(member.name).stem] = file.read().decode("utf-8")
    return dict(sorted(found.items()))


def theirs(template: ChatTemplate, form: Form, turns: list[Any], **how: bool) -> str | None:
    """What `transformers` renders; None if it refuses."""
    given = form.given(BOS, EOS)
    try:
        (text,), _ = chat_template_utils.render_jinja_template([turns], chat_template=template.source, **given, **how)
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError):
        return None
    return text if isinstance(text, str) else None


def relation(template: ChatTemplate, prompt: str, thought: str = "") -> str:
    """How a prompt up to the cue relates to what `transformers` renders: see this file's head.

    Args:
        thought: what the teacher is taken to have thought; empty: the prompt of mode `direct`.
    """
    form = template.thinking if thought and template.thinking else template.form
    selection = plain.example_selections(TASK, 1, LabelConfig.n_examples_per_label, LabelConfig.seed)[0]
    asked = plain.text_lines(TASK, ASKED.text, None)
    made = chat.turns_of(TASK, selection, "cot" if thought else "direct", plain.head(TASK), form, template if thought else None)
    turns = [{**turn, "content": _put(turn["content"], asked)} for turn in made]
    cue = plain.cue(TASK, "direct")
    fields = {name: chat.filled(value, thought, cue) for name, value in template.fields} if thought else {}
    if theirs(template, form, [*turns, {**form.turn("assistant", cue), **fields}], continue_final_message=True) == prompt:
        return "equal"
    begun = theirs(template, form, turns, add_generation_prompt=True)
    if begun is None:
        return "alone"
    return "continues" if prompt.startswith(begun) else "DIFFERS"


def _put(content: Any, asked: str) -> Any:
    """The content of a turn with the text in its place."""
    if isinstance(content, list):
        return [{name: value.replace(TEXT, asked) for name, value in part.items()} for part in content]
    return content.replace(TEXT, asked)


def inside_a_thought(prompt: str) -> bool:
    """Whether a prompt, from the text on, opens a thought that it does not close."""
    tail = prompt.rpartition(ASKED.text)[2]
    return any(tail.rfind(opening) > tail.rfind(closing) for opening, closing in THOUGHTS)


def main() -> int:
    """Print the table and its totals; 1 if a cue is inside a thought, or a prompt is unlike any of `transformers`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sdist", type=Path)
    found = templates(parser.parse_args().sdist)
    chat_template_utils.datetime = Still
    counts: Counter[str] = Counter()
    for name, source in found.items():
        identity = Identity("", "", "", "", source, BOS, EOS)
        try:
            template = read_template(source, BOS, EOS)
            direct = one_variant(TASK, 0, LabelConfig("direct", template="chat"), identity)
            cot = one_variant(TASK, 0, LabelConfig("cot", template="chat"), identity)
        except UserError as error:
            counts["refused"] += 1
            print(f"{name}\trefused: {error}")
            continue
        prompt = direct.prefix + direct.prompt(ASKED) + direct.spec.tail
        after = cot.prefix + cot.prompt(ASKED) + cot.spec.tail
        how = relation(template, prompt)
        if thought := cot.spec.thought:
            after += f"{RATIONALE}{thought.closing}{cot.spec.answer_cue}"
            counts.update(["thoughts", f"after a thought {relation(template, after, RATIONALE)}"])
        inside = inside_a_thought(prompt) or inside_a_thought(after)
        counts.update(["rendered", how, *["inside a thought"] * inside])
        print(f"{name}\t{template.kind}\t{how}{' INSIDE A THOUGHT' * inside}\t{prompt[-SHOWN:]!r}")
    print(f"\n{len(found)} templates: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    unlike = counts["DIFFERS"] + counts["after a thought DIFFERS"]
    return int(bool(counts["inside a thought"] or unlike or counts["rendered"] + counts["refused"] != len(found)))


if __name__ == "__main__":
    sys.exit(main())
