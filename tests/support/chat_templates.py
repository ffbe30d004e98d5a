"""Chat templates of every kind, written for these tests: each has the one habit that its name says, as models in use have it."""

_TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
_BEGIN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
_THOUGHT = "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"

PLAIN = _TURNS + _BEGIN
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}" + PLAIN
ALTERNATING = """
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif -%}
[{{ m.role }}] {{ m.content }}
{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"""
LOOP_CONTROLS = """
{%- for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}<|{{ m.role }}|>{{ m.content }}<|end|>
{%- if loop.index > 90 %}{% break %}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
GENERATION = """
{%- for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|end|>{% endgeneration %}
{%- else %}{{ m.content }}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
# A switch, on unless it is told otherwise; the answer after the last question keeps its thought, earlier ones do not.
SWITCH = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and loop.last %}" + _THOUGHT + "{% endif %}{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
KEEPING = "{% for m in messages %}<|{{ m.role }}|>" + _THOUGHT + "{{ m.content }}<|end|>{% endfor %}" + _BEGIN
SWITCHED_ON = (
    _TURNS + "{% if add_generation_prompt %}<|assistant|>{% if not reasoning_mode == 'deep' %}<think></think>"
    "{% else %}<think>{% endif %}{% endif %}"
)
SWITCH_IN_WORDS = (
    "{% set ns = namespace(think=true) %}{% for m in messages %}{% if '/no_think' in m.content %}{% set ns.think = false %}{% endif %}"
    "<|{{ m.role }}|>{{ m.content.replace('/no_think', '') }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>{% if not ns.think %}</think>{% endif %}{% endif %}"
)
# Every answer begins in a thought; of earlier ones only what follows it is kept.
ALWAYS_OPEN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
OPEN_IN_WORDS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{% if m.thought %}{{ m.thought }}\n[FINAL ANSWER]\n{% endif %}{{ m.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\nLet me work this out:\n{% endif %}"
)
CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.thinking and loop.last %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
RECIPIENT = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}>>>all\n{% endif %}{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>>>>{% endif %}"
)
EMPTY_THOUGHT_BY_CHANNEL = (  # the thought is a channel, closed empty unless it is switched on
    _TURNS + "{% if add_generation_prompt %}<|assistant|>{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
    "<|end|>{% endfor %}" + _BEGIN
)
TOOLS = "{{ 'Tools: ' + functions }}" + PLAIN
EOS = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}" + _BEGIN
)
BOS_IN_LETTERS = "<s>" + PLAIN
NEVER_CLOSED = _TURNS + "{% if add_generation_prompt %}<|assistant|><|my_thought|>{% endif %}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
ENDLESS_MACRO = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
HUGE = "{% set ns = namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}"
LONG = "{% for a in range(99999) %}{% for b in range(99999) %}{{ messages[0].role }}{% endfor %}{% endfor %}"
