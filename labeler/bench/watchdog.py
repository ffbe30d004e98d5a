"""Runs a program for as long as whoever started it lives, and no longer than so many seconds: `watch.py SECONDS PROGRAM ...`.

Standard input is the line to the starter: when it closes, even because the starter was killed, the program is ended.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time

POLL_S = 0.2  # how soon the program's own end is noticed
GRACE_S = 5.0  # between asking the program to end and ending it


def main(seconds: float, command: list[str]) -> int:
    """The program's exit status; negative if a signal ended it."""
    deadline = time.monotonic() + seconds
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as program:
        while program.poll() is None and time.monotonic() < deadline:
            if select.select([sys.stdin], [], [], POLL_S)[0]:
                break
        program.terminate()
        try:
            return program.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            program.kill()
            return program.wait()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
