"""Render a chat template in a bounded child process: what `transformers` renders, or one line that says why not."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from potstill.contract.errors import UserError

SANDBOX = Path(__file__).with_name("sandbox.py")
Turn = dict[str, Any]


class ConversationRefusedError(Exception):
    """The template does not take this conversation; another one may do."""


@dataclass(frozen=True)
class Bounds:
    """What rendering may take. Templates in use take milliseconds and some tens of thousands of characters."""

    cpu_s: int = 5  # of the child process, for the first rendering; others add little
    wall_s: float = 30.0  # for one rendering, where the system counts no processor time
    memory_bytes: int = 1 << 30  # address space of the child process
    max_chars: int = 4_000_000  # of one rendering: worked examples and guideline are in it


@dataclass(frozen=True)
class TemplateFacts:
    """What stands in a template."""

    undeclared: tuple[str, ...] = ()  # names that it reads and may expect as variables
    compared: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # by such a name: constants that it is compared with
    constants: tuple[str, ...] = ()  # its short strings


def cannot(reason: str) -> UserError:
    """The error of a template that gives no prompt."""
    return UserError(f"the teacher's chat template cannot be rendered ({reason}); use --template plain")


class TemplateProcess:
    """A template in a child process of its own. Use it in a `with` block."""

    def __init__(self, template: str, bounds: Bounds = Bounds()) -> None:
        """Start the process and compile the template.

        Raises:
            UserError: if the template is malformed or exceeds a bound.
            ModuleNotFoundError: if jinja2 is not installed.
        """
        if importlib.util.find_spec("jinja2") is None:
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        self._bounds, self._late = bounds, False
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SANDBOX)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
        )
        start = {
            "path": [str(entry) for entry in sys.path],
            "template": template,
            "max_chars": bounds.max_chars,
            "cpu_s": bounds.cpu_s,
            "memory_bytes": bounds.memory_bytes,
        }
        try:
            found = self._ask(start)["facts"]
            self.facts = TemplateFacts(tuple(found["undeclared"]), found["compared"], tuple(found["constants"]))
        except ConversationRefusedError as error:
            self.close()
            raise cannot(str(error)) from None
        except BaseException:
            self.close()
            raise

    def render(self, messages: Sequence[Turn], *, generate: bool, variables: Mapping[str, Any]) -> str:
        """The rendered conversation.

        Args:
            messages: turns with `role` and `content`.
            generate: whether the assistant's next turn is to be begun.
            variables: everything else that the template is given.
        Raises:
            ConversationRefusedError: if the template rejects this conversation.
            UserError: if it exceeds a bound; the process has ended then.
        """
        text: str = self._ask({"messages": messages, "add_generation_prompt": generate, **variables})["text"]
        return text

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> TemplateProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Send one line and read the answer; the clock ends a process that does not give one."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ValueError("the process has no pipes")
        clock = threading.Timer(self._bounds.wall_s, self._stop)
        clock.daemon = True
        clock.start()
        try:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            clock.cancel()
        if not line.endswith("\n"):
            raise self._ended()
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise ConversationRefusedError(found["error"])
        return found

    def _stop(self) -> None:
        """End a process that gives no answer."""
        self._late = True
        self._process.kill()

    def _ended(self) -> UserError:
        """The error of a process that was stopped, or gave up."""
        code = self._process.wait()
        if self._late or -code == getattr(signal, "SIGXCPU", None):
            return cannot(f"it takes more than {self._bounds.wall_s if self._late else self._bounds.cpu_s:g} s")
        return cannot(f"its rendering broke off with code {code}")
