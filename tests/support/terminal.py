"""Python programs run apart: with a terminal for standard error, or as a user whom file permissions bind, which they do not for root."""

import ctypes
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2  # constants of Linux
# What the system answers for a user who is in no list of users, as in a container that was started with a number for its user.
UNKNOWN = """
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""


def run_on_a_terminal(program: str) -> tuple[str, str]:
    """(standard output, what the terminal got without its control codes) of a program that must end well."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        output = process.stdout.read()
    os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert process.returncode == 0, plain
    return output, plain


def plain_user(code, *arguments, unknown=False, **environment):
    """Run the code with the arguments and nothing else in its environment. Args: unknown, whether the system lacks the user."""
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-W", "error", "-c", UNKNOWN * unknown + code, *map(str, arguments)]
    done = subprocess.run(command, env=settings, cwd="/", capture_output=True, text=True, timeout=120, preexec_fn=_bound)
    return done.returncode, done.stdout, done.stderr


def _bound():
    """Give up the right to pass over permissions, before the program starts; only root has it."""
    if os.geteuid() == 0:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
