"""The line that a person reads when a command does not end well."""

import pytest

from potstill.commands.console.errors import line, one_line, printable
from potstill.commands.main import run
from potstill.contract.errors import FormatError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\rb\x9bc\x00", "a\\rb\\x9bc\\x00"),
        ("\u202egnp.exe\u2069 \u2028", "\\u202egnp.exe\\u2069 \\u2028"),
        ("half \ud83d", "half \\ud83d"),
        ("two\nlines\tand 客户意图, שלום, \U0001f600, a\u200db", "two\nlines\tand 客户意图, שלום, \U0001f600, a\u200db"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown


def test_an_error_is_one_line_without_anything_that_a_terminal_would_obey():
    assert one_line(FormatError("a\x1b[2Jb.toml", "labels", "has 'x\ny'")) == "potstill: a\\x1b[2Jb.toml: labels: has 'x y'"
    assert line("a\nb\x1b") == "potstill: a b\\x1b"


def test_an_unknown_key_of_a_file_reaches_the_terminal_escaped(tmp_path, capsys):
    (tmp_path / "task.toml").write_text('"\\u001b]0;owned\\u0007" = 1\n')
    assert run(["task", "check", str(tmp_path / "task.toml")]) == 1
    said = capsys.readouterr().err
    assert "\\x1b]0;owned\\x07" in said and "\x1b" not in said
