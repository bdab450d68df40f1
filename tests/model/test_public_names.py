"""The folder's public names, which load on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import napari_sam.model


@pytest.mark.parametrize("name", napari_sam.model.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(napari_sam.model, name) is not None
    assert name in dir(napari_sam.model)


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'build_samm'"):
        napari_sam.model.build_samm  # noqa: B018


def test_the_store_comes_without_torch() -> None:
    code = (
        "import sys; from napari_sam.model import model_status, find_model, download_model; "
        "model_status(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
