"""Running Python as a user whom file permissions bind, which they do not for root, and as one whom the system does not know."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2  # constants of Linux
# What the system answers for a user who is in no list of users, as in a container that was started with a number for its user.
UNKNOWN = """
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""


def plain_user(code, *arguments, unknown=False, **environment):
    """Run the code with the arguments and nothing else in its environment. Args: unknown, whether the system lacks the user."""
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-W", "error", "-c", UNKNOWN * unknown + code, *map(str, arguments)]
    done = subprocess.run(command, env=settings, cwd="/", capture_output=True, text=True, timeout=120, preexec_fn=_bound)
    return done.returncode, done.stdout, done.stderr


def _bound():
    """Give up the right to pass over permissions, before the program starts; only root has it."""
    if os.geteuid() == 0:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
