"""Every command and every piece of Python in the documents runs, in the order of the page, or tests/documents/excuses.py says why not."""

from __future__ import annotations

import json
import shutil

import pytest
from documents.blocks import DATA, GENERATED, PAGES, PROGRAMS, SHELL, blocks_of, commands_of
from documents.excuses import NOT_RUN, PYTHON_NOT_RUN, REFUSES
from documents.reading import Reader, excuse, must_refuse
from documents.world import at_home, prepare

from potstill.commands.main import COMMANDS

pytestmark = pytest.mark.slow

READ = [page for page in PAGES if page not in GENERATED and any(block.language not in DATA for block in blocks_of(page))]


@pytest.mark.parametrize("page", READ)
def test_a_page_does_what_it_says(page, world, tmp_path):
    reader, models = tmp_path / "reader", world / "models"
    shutil.copytree(world / "reader", reader)
    texts = [json.loads(line)["text"] for line in (reader / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    with at_home(models, reader):
        person = Reader(models, {"__name__": "page", "texts": texts, "text": texts[0]})
        prepare(page)
        try:
            for block in blocks_of(page):
                person.read(block)
        finally:
            person.close()
    assert not person.problems, "\n".join(person.problems)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED])
def test_a_block_says_what_is_in_it(page):
    """So that no command hides in a block that is not run."""
    for block in blocks_of(page):
        assert block.language in (*SHELL, "python", *DATA), f"{block.place}: say behind the fence which of them it is"
        if block.language == "text":
            for line in block.code.splitlines():
                program, _, rest = line.partition(" ")
                is_command = program in PROGRAMS and (program != "potstill" or rest.partition(" ")[0] in COMMANDS)
                assert not is_command, f"{block.place}: {line}: is a command, so the block is one of sh"


def test_no_excuse_is_left_over():
    blocks = [block for page in READ for block in blocks_of(page)]
    lines = [command.line for block in blocks if block.language in SHELL for command in commands_of(block)]
    for beginning in NOT_RUN:
        assert any(excuse(line) == NOT_RUN[beginning] for line in lines if line.startswith(beginning)), beginning
    for page, line in PYTHON_NOT_RUN:
        assert any(block.page == page and line in block.code for block in blocks), (page, line)
    commands = [command for block in blocks if block.language in SHELL for command in commands_of(block)]
    for page, beginning in REFUSES:
        assert any(command.place.startswith(f"{page}:") and must_refuse(command) for command in commands), (page, beginning)
