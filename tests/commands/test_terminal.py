"""Progress: all that may take long shows a line. Colours: on a terminal, unless NO_COLOR is set and not empty (no-color.org); off a terminal never, as test_offline.py says."""

import re
import sys

import pytest
from support.every_command import COMMAND, DRIVER, surroundings, write_everything
from support.processes import on_a_terminal

pytestmark = pytest.mark.slow

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")  # of text or ground, by name, by number, or 24 bits
COLOURED = (
    "labels show out/labels.db",
    "label task.toml texts.jsonl again --teacher teacher.gguf --mode direct --paths 1 --pack as-is",
)
# Every line is drawn at once, since all of the commands end soon here.
AT_ONCE = "from potstill.commands.console import progress\nprogress.SECONDS_BEFORE_BAR = 0.0\n"
WHOLES = (
    "compare methods",
    "check the store",
    "derive",
    "compare texts",
    "combine",
    "propose",
    "report",
    "export",
    "evaluate",
    "package",
    "verify",
    "certify",
    "check",
    "answer texts",
    "shares",
    "adapt",
    "cascade",
    "bench",
)
ONE = [sys.executable, "-m", "potstill"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_models):
    """Everything that the commands read, beside an empty home."""
    folder = tmp_path_factory.mktemp("terminal") / "work"
    write_everything(folder, tiny_models["dense"])
    return folder


@pytest.fixture(scope="module")
def without_colours(folder):
    """(exit code, what the terminal got) of all commands with NO_COLOR."""
    command = [*COMMAND[:-1], AT_ONCE + DRIVER]
    code, _, shown = on_a_terminal(command, surroundings(folder / "home", NO_COLOR="1", OMP_NUM_THREADS="2"), folder, whole=True)
    return code, shown


def test_with_no_color_no_command_colours_anything(without_colours):
    code, shown = without_colours
    assert code == 0, shown[-3000:]
    assert "\x1b[?25l" in shown, "no bar was drawn, so this was no terminal"
    assert not [line for line in shown.splitlines() if COLOUR.search(line)]


@pytest.mark.parametrize("whole", WHOLES)
def test_a_command_that_may_take_long_shows_a_line_on_a_terminal(without_colours, whole):
    _, shown = without_colours
    assert re.search(rf"(?:^|[\r\n]|\x1b\[2K){whole} +━", shown)


@pytest.mark.parametrize("line", COLOURED)
@pytest.mark.parametrize("no_color", [None, ""])
def test_without_no_color_or_with_an_empty_one_there_are_colours(without_colours, folder, line, no_color):
    environment = surroundings(folder / "home", **({} if no_color is None else {"NO_COLOR": no_color}))
    code, _, shown = on_a_terminal([*ONE, *line.split()], environment, folder, whole=True)
    assert code == 0, shown
    assert COLOUR.search(shown)


def test_a_table_that_goes_into_a_file_is_plain_though_errors_go_to_a_terminal(without_colours, folder):
    code, output, _ = on_a_terminal([*ONE, "labels", "show", "out/labels.db"], surroundings(folder / "home"), folder)
    assert code == 0 and "60 of 60 texts" in output
    assert "\x1b" not in output
