"""A program under observation: what it asks of the network, in C++ as in Python.

The program gets a network namespace of its own, in which only the loopback interface is up, and a name server on it that
writes down every name that is asked for. The kernel counts what is sent to anywhere else, since no route leads there.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
UNSHARE = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--mount"]
_MS_BIND, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 4096, 0x8913, 0x8914, 1


@dataclass(frozen=True)
class Seen:
    """What a program did."""

    code: int
    out: str
    err: str
    names: list[str]  # that it asked the name server for, each once, in order
    n_strays: int  # packets and connections to anywhere but this machine


def can_watch() -> bool:
    """True if this system lets us make a network namespace."""
    return (
        shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    )


def watch(command: list[str], *, env: dict[str, str], cwd: Path, timeout_s: float = 900) -> Seen:
    """Run a program to its end and say what it did.

    Args:
        env: its whole environment.
        cwd: its folder.
        timeout_s: it is killed after this, and TimeoutExpired is raised.
    """
    with tempfile.NamedTemporaryFile() as report:
        whole = [*UNSHARE, sys.executable, "-S", __file__, report.name, *command]
        done = subprocess.run(whole, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
        told = json.loads(Path(report.name).read_text() or '{"names": ["(the witness itself failed)"], "strays": 0}')
    return Seen(done.returncode, done.stdout, done.stderr, told["names"], told["strays"])


def _main(report: str, command: list[str]) -> int:
    """Set the namespace up, run the command in it, and write what was seen."""
    _loopback_up()
    names: list[str] = []
    with _only_name_server(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        threading.Thread(target=_serve_names, args=(server, names), daemon=True).start()
        code = subprocess.run(command, check=False).returncode
    Path(report).write_text(json.dumps({"names": list(dict.fromkeys(names)), "strays": _n_strays()}))
    return code


def _loopback_up() -> None:
    """Switch the loopback interface on; a new namespace has it switched off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


@contextlib.contextmanager
def _only_name_server() -> Iterator[None]:
    """Let the namespace's resolv.conf name the loopback alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.NamedTemporaryFile("w") as configuration:
        configuration.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        configuration.flush()
        if libc.mount(configuration.name.encode(), os.path.realpath("/etc/resolv.conf").encode(), None, _MS_BIND, None):
            raise OSError(ctypes.get_errno(), "resolv.conf cannot be mounted over")
        yield


def _serve_names(server: socket.socket, names: list[str]) -> None:
    """Write down every name that is asked for, and answer that there is none of it."""
    while True:
        try:
            question, client = server.recvfrom(4096)
        except OSError:
            return
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
            at += 1 + question[at]
        names.append(".".join(labels))
        server.sendto(question[:2] + b"\x81\x83" + question[4:6] + bytes(6) + question[12 : at + 5], client)


def _n_strays() -> int:
    """What the kernel of this namespace could not route, of both versions of the protocol."""
    heads, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    six = (
        dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines()) if Path("/proc/net/snmp6").exists() else {}
    )
    return int(values[heads.index("OutNoRoutes")]) + int(six.get("Ip6OutNoRoutes", 0))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2:]))
