"""Configurations of distillations are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_sam.core.errors import ConfigError
from napari_sam.model.registry import ARCHITECTURES, MODELS
from napari_sam.training import load_distill_config

REPOSITORY = Path(__file__).parents[2]


def test_paths_are_relative_to_the_file_and_names_are_not(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('data = "a"\noutput = "b"\nteacher = "vit_b"\nembeddings = "c"\n')
    config = load_distill_config(path)
    assert config.teacher == "vit_b"
    assert config.student == "vit_t"
    assert [Path(config.data), Path(config.output), Path(config.embeddings)] == [
        tmp_path / name for name in "abc"
    ]
    path.write_text('data = "a"\noutput = "b"\nteacher = "t.pth"\nstudent = "s.safetensors"\n')
    config = load_distill_config(path)
    assert (Path(config.teacher), Path(config.student)) == (
        tmp_path / "t.pth",
        tmp_path / "s.safetensors",
    )


def test_an_empty_folder_of_embeddings_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('data = "a"\noutput = "b"\nteacher = "vit_b"\nembeddings = ""\n')
    assert load_distill_config(path).embeddings == ""


def test_the_shipped_configuration_names_a_teacher_and_a_student_that_exist() -> None:
    config = load_distill_config(REPOSITORY / "configs" / "distill_vit_t.toml")
    assert config.teacher in MODELS
    assert config.student in ARCHITECTURES


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("iterations = 0", "at least 1"),
        ("mask_weight = -1", "0 or more"),
        ("learning_rate = 0", "above 0"),
        ("box_fraction = 2", "between 0 and 1"),
        ("autocast = 1", "of type bool"),
        ("model = 'vit_t'", "model"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'data = "a"\noutput = "b"\nteacher = "vit_b"\n{line}\n')
    with pytest.raises(ConfigError, match=message):
        load_distill_config(path)


def test_the_teacher_has_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('data = "a"\noutput = "b"\n')
    with pytest.raises(ConfigError, match="teacher"):
        load_distill_config(path)
