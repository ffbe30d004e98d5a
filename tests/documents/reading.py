"""Does what a page says, block by block, in the folder of a reader."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import duckdb
import yaml
from documents.blocks import DATA, ROOT, SHELL, Block, Command, commands_of
from documents.excuses import NOT_RUN, PYTHON_NOT_RUN, REFUSES
from documents.world import label_by_hand, write_own

from potstill.commands.main import group, run

PATIENCE_S = 60
STAYS_UP = ("serve", "review")
OTHERS = ("openssl",)  # programs of the system that run as they stand
START = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from potstill.models import catalog
catalog.CATALOG_FILE = Path({catalog!r})
from potstill.commands.main import main
main()
"""


def excuse(line: str) -> str | None:
    """Why a line is not run; None for one that is."""
    return next((reason for beginning, reason in NOT_RUN.items() if line.startswith(beginning)), None)


def must_refuse(command: Command) -> str | None:
    """The words with which a command has to refuse; None for one that has to succeed."""
    page = command.place.rpartition(":")[0]
    return next((text for (own, beginning), text in REFUSES.items() if own == page and command.line.startswith(beginning)), None)


class Reader:
    """Runs the blocks of one page in order. Servers that a block starts stay up for the blocks after it; `close` ends them."""

    def __init__(self, models: Path, names: dict[str, Any]) -> None:
        """Args: names, what the Python of the page finds defined."""
        self.problems: list[str] = []
        self._names = names
        self._start = START.format(root=str(ROOT), catalog=str(models / "catalog.toml"))
        self._ports: dict[int, int] = {}  # by the port of the page, the one that a server really has
        self._running: list[subprocess.Popen[str]] = []

    def read(self, block: Block) -> None:
        """Run a block, or check what is only shown; what goes wrong is in `problems`, and the page goes on."""
        if block.language in SHELL:
            for command in commands_of(block):
                self._note(self._obey, command)
        elif block.language == "python":
            self._note(self._execute, block)
        elif block.language in DATA:
            _check_data(block)
        else:
            raise AssertionError(f"{block.place}: a block of {block.language!r} is neither run nor checked")

    def close(self) -> None:
        """End the servers as a person does."""
        for process in self._running:
            process.send_signal(signal.SIGINT)
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            process.kill()
            process.wait()
            process.stderr.close()

    def _note(self, do: Callable[[Any], None], what: Command | Block) -> None:
        """Do it, and keep what goes wrong with its place."""
        shown = what.line if isinstance(what, Command) else "python"
        try:
            do(what)
        except Exception as error:  # noqa: BLE001 - code of a page may raise anything
            self.problems.append(f"{what.place}: {shown}\n    {type(error).__name__}: {error}")

    # Shell

    def _obey(self, command: Command) -> None:
        """One line of a shell block."""
        program, *rest = command.words
        if program == "potstill":
            check_usage(command)
        if excuse(command.line):
            _check_unrun(command)
        elif program == "potstill" and rest[0] in STAYS_UP:
            self._serve(command, rest)
        elif program == "potstill":
            self._ours(command, rest)
            if rest[0] == "init":
                write_own(Path(rest[1]))
        elif program == "curl":
            self._request(command, rest)
        elif program == "duckdb":
            assert rest[0] == "-c"
            assert duckdb.sql(rest[1]).fetchall()
        elif program in OTHERS:
            done = subprocess.run(command.words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            assert done.returncode == 0, f"{done.stderr}"
        else:
            raise AssertionError("is not run, and tests/documents/excuses.py does not say why")

    def _ours(self, command: Command, args: list[str]) -> None:
        """A command that ends; what it prints goes to where the line says."""
        said, errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            code = run(args)
        said.flush()
        if command.into:
            Path(command.into).write_bytes(said.buffer.getvalue())
        refusal = must_refuse(command)
        assert code == (0 if refusal is None else 1), f"ends with {code}: {errors.getvalue()}"
        assert refusal is None or refusal in errors.getvalue(), f"refuses in other words: {errors.getvalue()}"

    def _serve(self, command: Command, args: list[str]) -> None:
        """A server, on a free port in the place of the page's."""
        asked = int(args[args.index("--port") + 1]) if "--port" in args else 8080
        kept = [word for at, word in enumerate(args) if word != "--port" and (at == 0 or args[at - 1] != "--port")]
        process = subprocess.Popen(
            [sys.executable, "-c", self._start, *kept, "--port", "0"], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        self._running.append(process)
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_listen, args=(process.stderr, lines), daemon=True).start()
        said = ""
        while not (found := re.search(r"http://[\w.\[\]]+:(\d+)", said)):
            line = lines.get(timeout=PATIENCE_S)
            assert line, f"{said}"
            said += line
        self._ports[asked] = int(found[1])
        if address := re.search(r"http://\S+/\?token=\S+", said):
            label_by_hand(int(found[1]), address[0], Path(args[args.index("--task") + 1]))
        status, body = self._ask("GET", f"http://127.0.0.1:{asked}/", None, {})
        assert status in (200, 401, 403, 421), f"answers {status} {body!r}"

    def _request(self, command: Command, args: list[str]) -> None:
        """What curl would send."""
        address, body, headers = "", None, {}
        words = iter(args)
        for word in words:
            if word in ("-d", "--data"):
                body = next(words).encode()
            elif word in ("-H", "--header"):
                name, _, value = next(words).partition(": ")
                headers[name] = value
            else:
                address = word
        status, reply = self._ask("POST" if body else "GET", address, body, headers)
        assert status == 200, f"{status} {reply!r}"

    def _ask(self, method: str, address: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """(status, body) of a request to a server of this page."""
        parts = urlsplit(address if "://" in address else f"http://{address}")
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[parts.port or 80], timeout=PATIENCE_S)
        try:
            connection.request(method, parts.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    # Python

    def _execute(self, block: Block) -> None:
        """Run the code; names stay for the next block of the page."""
        code = compile(block.code, block.place, "exec")
        if any(page == block.page and line in block.code for page, line in PYTHON_NOT_RUN):
            return
        own = block.code
        for asked, real in self._ports.items():
            own = own.replace(f"127.0.0.1:{asked}", f"127.0.0.1:{real}")
        code = compile(own, block.place, "exec")
        exec(code, self._names)


def check_usage(command: Command) -> None:
    """Have click parse a line as the console does, without running it: its options, their values, its arguments."""
    args, found, context = command.words[1:], group, click.Context(group, info_name="potstill")
    if args[0].startswith("-"):
        return
    while isinstance(found, click.Group):
        inner = found.get_command(context, args[0])
        assert inner is not None, f"there is no command {args[0]}"
        found, args = inner, args[1:]
    try:
        found.make_context(found.name, list(args), parent=context, resilient_parsing=False)
    except click.exceptions.Exit:
        return  # --help
    except click.UsageError as error:
        raise AssertionError(f"{error.format_message()}") from error


def _check_unrun(command: Command) -> None:
    """What can be said without running it: the target of make, the program in benchmarks/ with its options."""
    program, *rest = command.words
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in rest if "=" not in word} <= targets
    if program == "python":
        code = (ROOT / rest[0]).read_text(encoding="utf-8")
        for option in (word for word in rest if word.startswith("--")):
            assert f'"{option}"' in code, f"{rest[0]} has no {option}"


def _check_data(block: Block) -> None:
    """TOML, JSON lines and YAML are what they say."""
    if block.language == "toml":
        tomllib.loads(block.code)
    elif block.language == "yaml":
        yaml.safe_load(block.code)
    elif block.language == "json":
        for line in block.code.splitlines():
            json.loads(line)


def _listen(stream: Any, lines: queue.Queue[str]) -> None:
    """Pass on what a server says, and an empty line when it ends."""
    with contextlib.suppress(ValueError):  # closed while it is read
        for line in stream:
            lines.put(line)
    lines.put("")
