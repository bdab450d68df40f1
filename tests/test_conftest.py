from __future__ import annotations

import os
import socket

import pytest


def test_no_test_reaches_the_network() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection,
        pytest.raises(ConnectionRefusedError, match="A test wanted"),
    ):
        connection.connect(("192.0.2.1", 80))


def test_this_machine_itself_can_be_reached() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        assert client.getpeername() == server.getsockname()


def test_models_are_kept_in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = os.environ["NAPARI_SAM_HOME"]
    assert home.startswith(str(tmp_path_factory.getbasetemp()))
