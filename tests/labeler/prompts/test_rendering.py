"""Templates are rendered as `transformers` renders them, and one that takes too much ends in one line."""

import tomllib
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.prompts.rendering import Bounds, ConversationRefusedError, TemplateProcess

written = SimpleNamespace(**tomllib.loads(Path(__file__).with_name("templates.toml").read_text(encoding="utf-8")))

TURNS = [
    {"role": "user", "content": "<b> & 'ü' 🚀"},
    {"role": "assistant", "content": "ja"},
    {"role": "user", "content": "half \ud83d"},
]
GIVEN = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None}
CANNOT = "the teacher's chat template cannot be rendered ({}); use --template plain"


BOUNDS = Bounds()


def rendered(template: str, bounds: Bounds = BOUNDS) -> str:
    with TemplateProcess(template, bounds) as process:
        return process.render(TURNS, generate=True, variables=GIVEN)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
        "{% for m in messages %}  {% if loop.first %}{% continue %}{% endif %}{{ m['content'] }}{% break %}{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{{ bos_token }}{{ eos_token }}{{ tools is none }}{{ documents is defined }}{{ strftime_now('%d %b %Y') }}",
        "{%- set ns = namespace(n=0) -%}\n  {% for m in messages %}\n{% set ns.n = ns.n + m.content|length %}\n{% endfor %}\n{{ ns.n }}",
        written.SWITCH, written.CHANNELS, written.ALWAYS_OPEN, written.EOS,
    ],
)  # fmt: skip
def test_a_template_is_rendered_as_transformers_renders_it(template, monkeypatch):
    theirs = pytest.importorskip("transformers.utils.chat_template_utils")

    class Still:
        @staticmethod
        def now():
            return datetime(2025, 1, 1)

    monkeypatch.setattr(theirs, "datetime", Still)
    given = {name: value for name, value in GIVEN.items() if name not in ("tools", "documents")}
    (expected,), _ = theirs.render_jinja_template([TURNS], chat_template=template, add_generation_prompt=True, **given)
    assert rendered(template) == expected


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (written.ENDLESS, "it takes more than 1 s"),
        (written.ENDLESS_MACRO, "it calls itself without end"),
        (written.HUGE, "it needs too much memory"),
        ("{{ 'x' * 10**12 }}", "it needs too much memory"),
        (written.LONG, "it writes more than 10000 characters"),
        ("{{ 9 ** (9 ** 9) }}", "it takes more than 1 s"),
    ],
)
def test_a_template_that_takes_too_much_is_one_line(template, reason):
    with pytest.raises((UserError, ConversationRefusedError)) as caught:
        rendered(template, Bounds(cpu_s=1, memory_bytes=256 << 20, max_chars=10_000))
    assert str(caught.value) in (reason, CANNOT.format(reason))


def test_the_clock_ends_a_process_where_processor_time_does_not_run():
    with pytest.raises(UserError, match="it takes more than 0.5 s"):
        rendered(written.ENDLESS, Bounds(cpu_s=60, wall_s=0.5))


def test_a_refusal_leaves_the_process_ready_for_another_conversation():
    template = "{% if messages | length > 3 %}{{ raise_exception('too many') }}{% endif %}fine"
    with TemplateProcess(template) as process:
        with pytest.raises(ConversationRefusedError, match="^too many$"):
            process.render([*TURNS, TURNS[1]], generate=True, variables=GIVEN)
        assert process.render(TURNS, generate=True, variables=GIVEN) == "fine"


def test_a_template_says_which_variables_it_may_expect_and_what_it_compares_them_with():
    template = "{% if effort not in ['low', 'none'] or effort == 3 %}{{ other | tojson }}{% endif %}{{ 'a <mark>' }}"
    with TemplateProcess(template) as process:
        facts = process.facts
    assert facts.undeclared == ("effort", "other")
    assert facts.compared == {"effort": ["low", "none", 3]}
    assert "a <mark>" in facts.constants


def test_the_process_is_gone_afterwards_and_may_be_closed_twice():
    with TemplateProcess("{{ messages[0].content }}") as process:
        pass
    process.close()
    assert process._process.poll() is not None
