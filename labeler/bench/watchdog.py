"""Run a program that ends with its parent process, and after a number of seconds at the latest: `watchdog.py SECONDS PROGRAM ...`.

Standard input is a pipe to the parent: when it closes, even because the parent was killed, the program is ended. A file of its own,
because it runs as a script: importing this package would take as long as the program's start.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time

POLL_S = 0.2  # how soon the program's own end is noticed
GRACE_S = 5.0  # between asking the program to end and ending it


def main(seconds: float, command: list[str]) -> int:
    """Run the program and return its exit status; negative if a signal ended it. Args: seconds, above 0, until it is ended."""
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
