import pytest

from potstill.contract.errors import FormatError
from potstill.contract.task import Knowledge, load_task, missing, task_from_json, task_to_json

WHOLE = """
format = 1
name = "stance"
question = "Will it rise?"
guideline = "Judge the author, not the market."

[[labels]]
name = "up"
meaning = "expects a rise"
words = ["rise", "up"]

[[labels]]
name = "down"
meaning = "expects a fall"

[[examples]]
text = "calls on ACME"
rationale = "Calls gain when it rises."
label = "up"

[[examples]]
text = "puts on ACME"
rationale = "Puts gain when it falls."
label = "down"

[[knowledge]]
term = "calls"
meaning = "options that gain when the price rises"
"""


def written(tmp_path, text):
    path = tmp_path / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_task_is_read_in_the_order_of_its_labels(tmp_path):
    task = load_task(written(tmp_path, WHOLE))
    assert task.label_names == ["up", "down"]
    assert [label.spellings for label in task.labels] == [["rise", "up"], ["down"]]
    assert (task.input.noun, task.input.target, task.input.max_chars) == ("Text", False, 1000)


def test_layout_and_comments_do_not_change_the_digest_and_content_does(tmp_path):
    digest = load_task(written(tmp_path, WHOLE)).digest
    assert load_task(written(tmp_path, "# a comment\n" + WHOLE.replace(" = ", "    =   "))).digest == digest
    assert load_task(written(tmp_path, WHOLE.replace("Will it", "Does it"))).digest != digest


def test_a_task_survives_the_way_through_a_checkpoint(tmp_path):
    task = load_task(written(tmp_path, WHOLE))
    again = task_from_json(tmp_path / "task.json", task_to_json(task))
    assert again == task and again.digest == task.digest


@pytest.mark.parametrize("folder", ["market_stance", "support_tickets"])
def test_the_examples_are_whole_tasks(repository, folder):
    task = load_task(repository / "examples" / folder / "task.toml")
    assert len(task.labels) >= 3 and len(task.examples) >= 2 * len(task.labels)


BARE = """
format = 1
name = "stance"
question = "Will it rise?"

[[labels]]
name = "up"

[[labels]]
name = "down"
"""


def test_a_label_needs_a_name_and_a_task_no_example(tmp_path):
    task = load_task(written(tmp_path, BARE))
    assert (task.guideline, task.examples, [label.meaning for label in task.labels]) == ("", [], ["", ""])


def test_what_a_task_does_not_have_is_said_and_not_refused(tmp_path):
    none = "no worked examples: the teacher is asked without any, and prompts differ in the order of the answers alone"
    assert missing(load_task(written(tmp_path, BARE))) == [none]
    assert missing(load_task(written(tmp_path, WHOLE))) == []
    one_label = WHOLE.replace('label = "down"', 'label = "up"').replace('rationale = "Calls gain when it rises."\n', "")
    assert missing(load_task(written(tmp_path, one_label))) == [
        "no worked example has the label down: a teacher rarely answers so",
        "1 of 2 worked examples have no rationale: mode cot leaves them out",
    ]


def test_the_digest_of_a_task_does_not_tell_what_is_left_out_from_what_is_empty(tmp_path):
    written_out = BARE.replace("[[labels]]", 'guideline = ""\n\n[[labels]]', 1)
    assert load_task(written(tmp_path, written_out)).digest == load_task(written(tmp_path, BARE)).digest


RULES = """
[[rules]]
name = "buys"
label = "up"
pattern = '\\bbought\\b.{0,20}\\bcalls\\b'

[[rules]]
name = "fear"
label = "down"
keywords = ["crash", "🐻"]
"""


def test_rules_do_not_change_the_digest_since_the_teacher_is_not_shown_them(tmp_path):
    plain, ruled = load_task(written(tmp_path, WHOLE)), load_task(written(tmp_path, WHOLE + RULES))
    assert ruled.digest == plain.digest
    assert [rule.name for rule in ruled.rules] == ["buys", "fear"]
    assert task_from_json(tmp_path / "task.json", task_to_json(ruled)) == ruled
    assert b"rules" not in task_to_json(plain)


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("I BOUGHT more calls", ["buys"]),
        ("I bought a house. Then, a long time after that, calls", []),
        ("It will Crash.", ["fear"]),
        ("crashing", []),
        ("so🐻so", ["fear"]),
        ("bought calls before the crash", ["buys", "fear"]),
    ],
)
def test_a_rule_matches_its_pattern_or_a_whole_word_ignoring_case(tmp_path, text, matched):
    rules = load_task(written(tmp_path, WHOLE + RULES)).rules
    assert [rule.name for rule in rules if rule.matcher()(text)] == matched


UP = '[[labels]]\nname = "up"\nmeaning = "expects a rise"\nwords = ["rise", "up"]'
BROKEN = [
    ("", "object missing required field `format`"),
    ("format = \n", "not valid TOML: Invalid value (at line 1, column 10)"),
    ("x = " + "[" * 5000, None),  # nested deeper than the parser goes
    (
        WHOLE.replace("format = 1", "format = 2"),
        "format: is 2; this version reads 1, and 2 for several questions, which this step does not take",
    ),
    (WHOLE.replace("format = 1", 'format = "1"'), "format: expected `int`, got `str`"),
    (
        WHOLE.replace("question =", "qestion ="),
        "unknown key 'qestion' (did you mean 'question'?); allowed: format, name, question, guideline, labels, examples, knowledge, rules, wordings, input, prompt",
    ),
    (
        WHOLE.replace("question = ", "guidelin = 1\nquestion = "),
        "unknown key 'guidelin' (did you mean 'guideline'?); allowed: format, name, question, guideline, labels, examples, knowledge, rules, wordings, input, prompt",
    ),
    (WHOLE.replace('"expects a fall"', "3"), "labels[1].meaning: expected `str`, got `int`"),
    (WHOLE.replace('"stance"', '" "'), "name: is empty; write one sentence"),
    (WHOLE.replace('"Will it rise?"', '""'), "question: is empty; write one sentence"),
    (WHOLE.replace(UP, ""), "labels: has 1; a task needs at least 2"),
    (WHOLE.replace('name = "down"', 'name = ""'), "labels[1].name: is empty; name the label"),
    (WHOLE.replace('name = "down"', 'name = "up"'), "labels[1].name: repeats 'up'; rename one of the two"),
    (WHOLE.replace('name = "down"', 'name = "rise"'), "labels[1].words: 'rise' already stands for 'up'; choose another word"),
    (WHOLE.replace('"rise", "up"', '" rise"'), "labels[0].words: ' rise' is blank or has space around it; write the bare word"),
    (WHOLE.replace('"rise", "up"', '"ri\\nse"'), "labels[0].words: 'ri\\nse' is blank or has space around it; write the bare word"),
    (WHOLE.replace('label = "down"', 'label = "sideways"'), "examples[1].label: 'sideways' is not a label; allowed: up, down"),
    (WHOLE.replace('"calls on ACME"', '"  "'), "examples[0].text: is empty; write it out, or delete the example"),
    (
        WHOLE.replace('text = "calls on ACME"', 'text = "calls on ACME"\ntarget = "ACME"'),
        "examples[0].target: has a target, but input.target is false; change one of the two",
    ),
    (
        WHOLE + "[input]\ntarget = true\n",
        "examples[0].target: needs a target, because input.target is true; change one of the two",
    ),
    (WHOLE + "[input]\nmax_chars = 0\n", "input.max_chars: is 0; it must be at least 1 character"),
    (
        WHOLE + "[input]\nmax_char = 9\n",
        "input: unknown key 'max_char' (did you mean 'max_chars'?); allowed: noun, target, target_noun, max_chars",
    ),
    (
        WHOLE.replace('term = "calls"', 'term = " "'),
        "knowledge[0]: term and meaning must not be empty; complete or delete it",
    ),
    (WHOLE + RULES.replace('"buys"', '"fear"'), "rules[1].name: repeats 'fear'; rename one of the two"),
    (WHOLE + RULES.replace('"buys"', '" "'), "rules[0].name: is ' '; name the rule, in one line"),
    (WHOLE + RULES.replace('"down"', '"flat"'), "rules[1].label: 'flat' is not a label; allowed: up, down"),
    (WHOLE + RULES.replace('keywords = ["crash", "🐻"]', ""), "rules[1]: has neither keywords nor a pattern; give one of the two"),
    (WHOLE + RULES + 'pattern = "x"\n', "rules[1]: has both keywords and a pattern; give one of the two"),
    (WHOLE + RULES.replace('"crash"', '" "'), "rules[1].keywords: holds an empty one; write it out, or delete it"),
    (
        WHOLE + RULES.replace("patern", "").replace("pattern", "regex"),
        "rules[0]: unknown key 'regex'; allowed: name, label, keywords, pattern",
    ),
    (
        WHOLE + RULES.replace("{0,20}", "(x"),
        "rules[0].pattern: is not a regular expression: missing ), unterminated subpattern at character 12; write it in Python's syntax",
    ),
    (
        WHOLE + RULES.replace("'\\bbought\\b.{0,20}\\bcalls\\b'", "'(calls)?'"),
        "rules[0].pattern: matches even an empty text, so the rule would vote on every one; write a narrower one",
    ),
]


@pytest.mark.parametrize(("text", "problem"), BROKEN)
def test_a_broken_task_is_refused_with_place_and_problem(tmp_path, text, problem):
    path = written(tmp_path, text)
    with pytest.raises(FormatError) as caught:
        load_task(path)
    if problem is None:
        assert str(caught.value).startswith(f"{path}: not valid TOML: ")
    else:
        assert str(caught.value) == f"{path}: {problem}"


def test_a_task_that_is_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "task.toml"
    path.write_bytes(b"format = 1\nname = 'caf\xe9'\n")
    with pytest.raises(FormatError) as caught:
        load_task(path)
    assert str(caught.value) == f"{path}: line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"


def test_a_missing_task_and_a_folder_are_one_line(tmp_path):
    for path, problem in ((tmp_path / "none.toml", "no such file; check the path"), (tmp_path, "is a folder; name a file in it")):
        with pytest.raises(FormatError) as caught:
            load_task(path)
        assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("熔断", "今天又触发熔断机制了，心累"), ("熔断", "今天 熔断 了"), ("ETF", "我买了ETF，长期持有"), ("ETF", "我买了ＥＴＦ"), ("$GME", "买$GME"),
        ("ショート", "空売りでショートを入れた"), ("人々", "昔の人々は"), ("공매도", "그는 공매도가 싫다"), ("ซื้อ", "ฉันซื้อหุ้น"),
        ("कर", "यह कर है"), ("put", "a PUT!"), ("C++", "C++ is"), ("a a", "ba a a"),
    ],
)  # fmt: skip
def test_a_term_is_found_as_a_word_or_anywhere_where_no_space_parts_words(term, text):
    assert Knowledge(term=term, meaning="m").occurs_in(text)


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("ETF", "two ETFs"),
        ("put", "computer"),
        ("$GME", "a$GME"),
        ("C++", "C++x"),
        ("x", "x_y"),
        ("कर", "करें"),
        ("ซื", "ฉันซื้อหุ้น"),
        ("caf", "cafe\u0301s"),
    ],
)
def test_a_part_of_a_word_is_not_the_term(term, text):
    assert not Knowledge(term=term, meaning="m").occurs_in(text)
