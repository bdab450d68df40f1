"""What tests of the pipeline share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fake_candidates import PLANE
from napari_sam.pipeline.label_target import LabelTarget
from napari_sam.pipeline.session import Session


@pytest.fixture
def session() -> Iterator[Session]:
    """Return a session on the first plane of a stack."""
    session = Session()
    session.set_image("image")
    session.set_plane(PLANE)
    yield session
    session.close()


@pytest.fixture
def labels() -> np.ndarray:
    """Return the empty labels of that stack."""
    return np.zeros((2, 80, 100), np.uint16)


@pytest.fixture
def target(labels: np.ndarray) -> LabelTarget:
    """Return the labels as what a session writes into."""
    return LabelTarget([labels])
