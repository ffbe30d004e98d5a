"""Changes to a `tokenizer.json` that would take much memory or time, each with the error that refuses it."""

import base64

TRUST = "if you know who made the bundle, open it with --trust"


def _replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def multiplied(form):
    """Nine characters become gigabytes."""
    form["normalizer"] = {"type": "Sequence", "normalizers": [_replace({"String": "a"}, "a" * 9) for _ in range(9)]}


def multiplied_by_a_table(form):
    table = (4).to_bytes(4, "little") + bytes(4) + b"a" * 100_000 + b"\0"
    form["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def filled_between_characters(form):
    form["normalizer"] = _replace({"Regex": "x*"}, "y" * 30)


def backtracking(form):
    form["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


def backtracking_over_choices(form):
    form["normalizer"] = _replace({"Regex": "(?:a|a)*b"}, "c")


def referring_back(form):
    form["normalizer"] = _replace({"Regex": r"(.+)\1"}, "c")


def many_added(form):
    form["added_tokens"] = [
        {"id": 10 + at, "content": f"<{at}>", "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for at in range(400_000)
    ]


def an_unknown_part(form):
    form["pre_tokenizer"] = {"type": "Unheard"}


def many_parts(form):
    form["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}] * 40}


def a_text_many_times(form):
    pieces = [{"Sequence": {"id": "A", "type_id": 0}}] * 9
    form["post_processor"] = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": {}}


def dropout(form):
    form["model"]["dropout"] = 0.5


def huge_words(form):
    form["model"]["max_input_chars_per_word"] = 10**9


ATTACKS = [
    (multiplied, f"normalizer Replace: makes a text more than 40 times longer; {TRUST}"),
    (multiplied_by_a_table, f"normalizer Precompiled: makes 100000 bytes of a character; at most 40 are allowed; {TRUST}"),
    (filled_between_characters, f"normalizer Replace: has a regular expression that may match nothing; {TRUST}"),
    (backtracking, f"pre_tokenizer: has a regular expression that repeats something that itself repeats or chooses; {TRUST}"),
    (
        backtracking_over_choices,
        f"normalizer Replace: has a regular expression that repeats something that itself repeats or chooses; {TRUST}",
    ),
    (
        referring_back,
        f"normalizer Replace: has a regular expression that has a back reference, or a class that does not end; {TRUST}",
    ),
    (many_added, "added_tokens: are 400000; at most 20000 are allowed"),
    (
        an_unknown_part,
        "pre_tokenizer: has a part of the type 'Unheard'; allowed: BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, "
        "FixedLength, Metaspace, Punctuation, Sequence, Split, UnicodeScripts, Whitespace, WhitespaceSplit; " + TRUST,
    ),
    (many_parts, f"pre_tokenizer: has more than 32 parts; {TRUST}"),
    (a_text_many_times, f"post_processor.single: repeats a text, or has more than 16 pieces; {TRUST}"),
    (dropout, "model.dropout: is 0.5; with it, a text gets another answer each time"),
    (huge_words, "model.max_input_chars_per_word: is 1000000000; it must be from 1 to 1000"),
]
