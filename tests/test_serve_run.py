from __future__ import annotations

import socket

import pytest

from contract.errors import FormatError, UserError
from serve.run import ServeConfig, listen, serve


def test_a_port_that_is_taken_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^port {port} on 127.0.0.1 is taken; choose another one with --port$"):
            listen(ServeConfig(port=port))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_let_in_only_when_that_is_said(host):
    with pytest.raises(
        UserError, match="lets other machines in, and the server has no key yet; use 127.0.0.1, or allow it with --insecure$"
    ):
        listen(ServeConfig(host=host, port=0))


def test_saying_so_opens_the_address():
    with listen(ServeConfig(host="0.0.0.0", port=0, insecure=True)) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_localhost_is_this_machine():
    with listen(ServeConfig(host="localhost", port=0)) as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["no such host", "x" * 300])
def test_an_unknown_host_is_one_clear_line(host):
    with pytest.raises(UserError, match="no such host"):
        listen(ServeConfig(host=host, port=0))


def test_an_address_of_another_machine_cannot_be_used():
    with pytest.raises(UserError, match="^port 0 on 192.0.2.1 cannot be used: "):
        listen(ServeConfig(host="192.0.2.1", port=0, insecure=True))


def test_a_folder_that_is_no_bundle_frees_the_port_again(tmp_path):
    with listen(ServeConfig(port=0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FormatError, match="is not a bundle"):
        serve(tmp_path, ServeConfig(port=port))
    listen(ServeConfig(port=port)).close()
