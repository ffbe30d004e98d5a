"""The listening socket, and the errors if it cannot be had."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from potstill.contract.errors import FormatError, UserError
from potstill.serve.http.config import BundleSpec, ServeConfig
from potstill.serve.http.network.listener import address_text, listen_tcp, listen_unix
from potstill.serve.run import serve


def test_a_port_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^port {port} on 127.0.0.1 is in use; choose another one with --port$"):
            listen_tcp("127.0.0.1", port, open_to_others=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_open_to_other_machines_needs_permission(host):
    problem = f"^{host} is open to other machines; require a key with --keys FILE or POTSTILL_KEYS, use 127.0.0.1, or allow it"
    with pytest.raises(UserError, match=problem):
        listen_tcp(host, 0, open_to_others=False)


def test_permission_opens_the_address():
    with listen_tcp("0.0.0.0", 0, open_to_others=True) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_localhost_is_this_machine():
    with listen_tcp("localhost", 0, open_to_others=False) as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["no such host", "x" * 300])
def test_an_unknown_host_is_one_clear_line(host):
    with pytest.raises(UserError, match="unknown host"):
        listen_tcp(host, 0, open_to_others=False)


def test_an_address_of_another_machine_cannot_be_used():
    with pytest.raises(UserError, match="^port 0 on 192.0.2.1 cannot be used: "):
        listen_tcp("192.0.2.1", 0, open_to_others=True)


@pytest.mark.parametrize("bundle", [BundleSpec, Path, str, "name={}".format])
def test_a_folder_that_is_not_a_bundle_frees_the_port_again(tmp_path, bundle):
    with listen_tcp("127.0.0.1", 0, open_to_others=False) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FormatError, match="is not a bundle"):
        serve([bundle(tmp_path)], ServeConfig(port=port))
    listen_tcp("127.0.0.1", port, open_to_others=False).close()


def test_a_socket_is_for_this_user_alone_and_a_stale_one_is_replaced(tmp_path):
    path = tmp_path / "socket"
    with listen_unix(str(path)) as listener:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert address_text(listener) == f"unix:{path}"
        with pytest.raises(
            UserError, match=f"^{path}: another server is listening there; stop it, or choose another path for --unix$"
        ):
            listen_unix(path)
    assert path.exists()
    listen_unix(path).close()


def test_another_kind_of_file_at_the_path_is_left_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(UserError, match=f"^{path}: exists and is not a socket; choose another path for --unix$"):
        listen_unix(path)
    assert path.read_text() == "mine"


def test_where_processes_cannot_share_memory_several_are_refused(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")  # as on macOS
    with pytest.raises(UserError, match="several processes share memory that only Linux has; leave it out, and state --workers"):
        serve([tmp_path], ServeConfig(port=0, processes=2))
