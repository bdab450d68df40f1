"""What the registry says of each model."""

from __future__ import annotations

import re

import pytest

from napari_sam.core.errors import ConfigError
from napari_sam.model.registry import MODELS, ModelEntry, find_model

HEX_DIGITS = {"sha256": 64, "xxh128": 32}


def test_the_promised_models_are_there() -> None:
    assert set(MODELS) == {
        "compact",
        "vit_b",
        "vit_l",
        "vit_h",
        "vit_t",
        "vit_t_lm",
        "vit_b_lm",
        "vit_l_lm",
        "vit_t_em_organelles",
        "vit_b_em_organelles",
    }


@pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.name)
def test_an_entry_is_complete(entry: ModelEntry) -> None:
    assert entry.license in {"Apache-2.0", "CC-BY-4.0", "MIT"}
    assert entry.citation
    assert entry.description
    if entry.is_bundled:
        assert entry.file_hash is None
        return
    assert entry.url is not None
    assert entry.url.startswith("https://")
    assert entry.name.startswith(entry.architecture)
    assert entry.file_hash is not None
    digits = HEX_DIGITS[entry.file_hash.algorithm]
    assert re.fullmatch(f"[0-9a-f]{{{digits}}}", entry.file_hash.hexdigest)
    assert entry.size_bytes is not None
    assert entry.size_bytes > 1e7


def test_files_do_not_share_a_name() -> None:
    assert len({entry.file_name for entry in MODELS.values()}) == len(MODELS)


def test_a_slip_of_the_pen_gets_the_close_name() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean .*vit_b_lm"):
        find_model("vit_b_ml")


def test_another_word_gets_the_list() -> None:
    with pytest.raises(ConfigError, match=r"The models are compact, vit_b.*path of a weights file"):
        find_model("unet")
