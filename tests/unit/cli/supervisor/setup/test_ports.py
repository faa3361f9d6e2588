from __future__ import annotations

import os
import socket

import pytest

from cli.errors import StartRefused
from cli.supervisor.setup.ports import check_ports


def test_a_taken_port_is_told_with_its_setting_and_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StartRefused) as caught:
            check_ports("127.0.0.1", {port: "BATON_PORT"})
    assert str(caught.value).startswith(f"port {port} (BATON_PORT) cannot be used: process {os.getpid()} (")
    check_ports("127.0.0.1", {port: "BATON_PORT"})


def test_an_address_of_another_machine() -> None:
    with pytest.raises(StartRefused, match="BATON_PORT"):
        check_ports("192.0.2.1", {18999: "BATON_PORT"})
