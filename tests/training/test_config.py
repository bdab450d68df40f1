"""Configurations are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_sam.core.errors import ConfigError
from napari_sam.training import TrainConfig, load_config

REPOSITORY = Path(__file__).parents[2]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('data = "images"\noutput = "../runs"\niterations = 7\n[sampling]\nnuclei = 2\n')
    config = load_config(path)
    assert config.model == "compact"
    path.write_text('data = "images"\noutput = "b"\nmodel = "a.safetensors"\n')
    assert Path(load_config(path).model) == tmp_path / "a.safetensors"
    assert Path(config.data) == tmp_path / "images"
    assert config.iterations == 7
    assert config.sampling == {"nuclei": 2}


def test_the_shipped_configurations_are_valid() -> None:
    paths = list((REPOSITORY / "configs").glob("compact*.toml"))
    assert paths
    assert all(isinstance(load_config(path), TrainConfig) for path in paths)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("iteration = 5", "iteration"),
        ("iterations = 0", "at least 1"),
        ("iterations = true", "of type int"),
        ('iterations = "5"', "of type int"),
        ("crop_size = 100", "multiple of 32"),
        ("learning_rate = 0", "above 0"),
        ("box_fraction = 1.5", "between 0 and 1"),
        ("= 3", "cannot be read"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'data = "a"\noutput = "b"\n{line}\n')
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_missing_options_and_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('data = "a"\n')
    with pytest.raises(ConfigError, match="output"):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.toml")
