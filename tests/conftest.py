"""What holds for every test: no network, no file outside temporary folders, no wait for a disk.

And a storage behind a URL that is none of these.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# A busy machine is slow, not wrong: no test fails for the time that an example takes.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

# A shell lets what it starts in the background ignore Ctrl-C, and so would the programs that tests
# start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def pytest_collection_finish() -> None:
    """Keep what is imported by now out of the garbage collector's search.

    napari and torch bring some million objects that stay until the end, and tests of windows ask
    for a search again and again, to see that nothing is left behind.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _offline() -> Iterator[None]:
    """Refuse every connection but those to this machine itself."""
    connect = socket.socket.connect
    connect_ex = socket.socket.connect_ex

    def refuse_unless_local(address: object) -> None:
        if isinstance(address, tuple) and address[0] not in _LOOPBACK:
            raise ConnectionRefusedError(f"A test wanted to connect to {address}")

    def guarded_connect(self: socket.socket, address: tuple) -> None:
        refuse_unless_local(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: tuple) -> int:
        refuse_unless_local(address)
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep downloaded models, caches and settings of the person who runs the tests out of them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_SAM_HOME", str(home / "napari-sam"))
        patch.setenv("NAPARI_CONFIG", str(home / "napari.yaml"))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk() -> Iterator[None]:
    """Let what was written stay in memory: being on the disk matters when power is lost.

    Tests of that put functions of their own here. Other processes, as those of the examples, wait.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def memory() -> Iterator[Any]:
    """A storage that is a URL to everyone, empty before and after."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()
