"""A process in the place of the teacher behind a server, that answers well or in one of many bad ways.

    python fallback_stand_in.py SOCKET LABELS MANNER [SECONDS]

It writes a line to stdout once it listens, and then one for each question. `Answers well` gives the first label 0.7.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FIRST = 0.7  # probability of the first label


def frame(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack(">I", len(data)) + data


def probs(labels):
    return dict.fromkeys(labels, (1 - FIRST) / (len(labels) - 1)) | {labels[0]: FIRST}


def twice(number, labels):
    return frame({"id": number, "probs": probs(labels)}) * 2


# What is sent for a question, by its id and the labels.
MANNERS = {
    "well": lambda number, labels: frame({"id": number, "probs": probs(labels)}),
    "not a number": lambda number, labels: frame(f'{{"id":{number},"probs":{{"{labels[0]}":NaN}}}}'.encode()),
    "null": lambda number, labels: frame({"id": number, "probs": dict.fromkeys(labels)}),
    "other labels": lambda number, labels: frame({"id": number, "probs": probs(["x", *labels[1:]])}),
    "a label too few": lambda number, labels: frame({"id": number, "probs": {labels[0]: 1.0}}),
    "sum": lambda number, labels: frame({"id": number, "probs": dict.fromkeys(labels, 0.9)}),
    "negative": lambda number, labels: frame(
        {"id": number, "probs": dict.fromkeys(labels, 0.0) | {labels[0]: -1.0, labels[1]: 2.0}}
    ),
    "nothing": lambda number, labels: frame({"id": number}),
    "other id": lambda number, labels: frame({"id": number + 1000, "probs": probs(labels)}),
    "unknown field": lambda number, labels: frame({"id": number, "probs": probs(labels), "more": 1}),
    "garbage": lambda number, labels: b"HTTP/1.1 200 OK\r\n\r\n",
    "giant": lambda number, labels: struct.pack(">I", 2**31) + b"x" * 1000,
    "empty": lambda number, labels: struct.pack(">I", 0),
    "not JSON": lambda number, labels: frame(b"\xff\xfe{"),
    "deep": lambda number, labels: frame(b'{"id":' + b"[" * 100_000),
    "twice": twice,
    "problem": lambda number, labels: frame({"id": number, "problem": "failed"}),
    "unknown problem": lambda number, labels: frame({"id": number, "problem": "tired"}),
    "too long": lambda number, labels: frame({"id": number, "problem": "too long"}),
    "never": lambda number, labels: b"",
    "half": lambda number, labels: frame({"id": number, "probs": probs(labels)})[:-5],
}


def serve(connection, labels, manner, seconds):
    """Answer on one connection until it ends."""
    greeting = {"format": 1, "teacher": "stand-in", "labels": labels, "target": False}
    if manner == "no greeting":
        time.sleep(3600)
    if manner == "other greeting":
        greeting["format"] = 2
    try:
        connection.sendall(frame(greeting))
        stream = connection.makefile("rb")
        while head := stream.read(4):
            question = json.loads(stream.read(struct.unpack(">I", head)[0]))
            os.write(1, (json.dumps(question) + "\n").encode())
            if manner == "dies":
                os._exit(9)
            time.sleep(seconds)
            data = MANNERS[manner](question["id"], labels)
            connection.sendall(data)
    except OSError:
        pass


def main():
    path, labels, manner, seconds = sys.argv[1], sys.argv[2].split(","), sys.argv[3], float((*sys.argv, "0")[4])
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    os.write(1, b"listening\n")
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, labels, manner, seconds), daemon=True).start()


class StandIn:
    """The process; a `with` block kills it."""

    def __init__(self, path, labels, manner="well", seconds=0.0):
        command = [sys.executable, __file__, str(path), ",".join(labels), manner, str(seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"listening\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def hold(self):
        """Stop it with every thread. The signal alone reaches one of them, and a busy machine lets the others answer for a while."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def question(self):
        """The next question that it was asked."""
        return json.loads(self.process.stdout.readline())


if __name__ == "__main__":
    main()
