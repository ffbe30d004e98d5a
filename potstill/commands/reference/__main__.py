"""Write pages: `python -m potstill.commands.reference docs/cli.md docs/api.md docs/http.md`; a file's name says which page."""

from __future__ import annotations

import sys
from pathlib import Path

from potstill.commands.reference.command_line import command_reference
from potstill.commands.reference.http_interface import http_reference
from potstill.commands.reference.python_names import api_reference
from potstill.contract.files import atomic

PAGES = {"cli.md": command_reference, "api.md": api_reference, "http.md": http_reference}


def main(paths: list[Path]) -> None:
    """Write each page; ends the program with a message if a file is none of them."""
    for path in paths:
        if path.name not in PAGES:
            sys.exit(f"{path}: there is no such page; allowed: {', '.join(PAGES)}")
        atomic.write_file(path, PAGES[path.name]().encode())


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
