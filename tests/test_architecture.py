"""The rules of the house: who may import whom, and what loads when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "napari_sam"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400

GUI = {"napari", "qtpy", "magicgui", "superqt", "vispy", "PyQt5", "PyQt6", "PySide6"}
HEAVY = {"torch", "torchvision", "pandas", "pyarrow", "matplotlib", "safetensors", "xxhash"}
SLOW = {"torch", "zarr", "tifffile", "skimage", "scipy", "rich", "pooch", "PIL", "numpy"}


def loaded_by(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter and return the top-level modules that it loaded."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())  # above it is what the statement prints


def test_import_contracts_hold(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--cache-dir",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["pipeline", "predict", "model", "io", "cli"])
def test_the_engine_loads_no_window_library(folder: str) -> None:
    assert not loaded_by(f"import napari_sam.{folder}") & GUI


@pytest.mark.parametrize("folder", ["core", "io", "tiling", "labels"])
def test_the_parts_around_the_model_load_no_torch(folder: str) -> None:
    assert "torch" not in loaded_by(f"import napari_sam.{folder}")


def test_the_package_loads_nothing_heavy_until_used() -> None:
    assert not loaded_by("import napari_sam; napari_sam.__version__; dir(napari_sam)") & (
        GUI | SLOW
    )


def test_help_loads_no_subcommand_and_nothing_heavy() -> None:
    loaded = loaded_by("from napari_sam.cli import _run; assert _run(['--help']) == 0")
    assert "click" in loaded
    assert not loaded & (GUI | SLOW)


@pytest.mark.parametrize(
    "command", ["segment", "embed", "link", "models", "train", "distill", "evaluate", "demo"]
)
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    loaded = loaded_by(
        f"from napari_sam.cli import _run; assert _run(['{command}', '--help']) == 0"
    )
    assert not loaded & (GUI | SLOW | HEAVY)


@pytest.mark.parametrize(
    "module", ["segment_widget", "everything_widget", "reader", "writer", "sample_data"]
)
def test_the_manifests_modules_load_nothing_heavy_of_their_own(module: str) -> None:
    """The window stands still meanwhile; what napari has loaded itself costs nothing more."""
    pytest.importorskip("napari")
    napari = "import napari, napari.layers, napari.viewer"
    before = loaded_by(f"import warnings; warnings.simplefilter('ignore'); {napari}")
    after = loaded_by(
        f"import warnings; warnings.simplefilter('ignore'); {napari}, napari_sam._napari.{module}"
    )
    assert not (after - before) & HEAVY


def test_the_plugin_loads_models_in_one_place_only() -> None:
    """Where all widgets look for what is in memory already."""
    imported = {
        (path.name, alias.name)
        for path in sorted((PACKAGE / "_napari").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    loaders = {file for file, name in imported if name in ("load_model", "load_segmenter")}
    assert loaders == {"loaded_models.py"}


def test_core_needs_the_standard_library_and_numpy_only() -> None:
    allowed = sys.stdlib_module_names | {"numpy", "napari_sam"}
    for path in sorted((PACKAGE / "core").glob("*.py")):
        assert imported_names(path) <= allowed, path.name


def imported_names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def test_requirements_are_what_the_code_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.match(r"[\w-]+", line).group() for line in project["dependencies"]}
    imported = set().union(*map(imported_names, MODULES)) - sys.stdlib_module_names
    extra = project["optional-dependencies"]["distributed"]
    imported -= {re.match(r"[\w-]+", line).group() for line in extra}
    imported -= {"napari_sam", "napari"}  # the extra `gui` has napari
    distributions = {"PIL": "pillow", "skimage": "scikit-image"}
    used = {distributions.get(name, name) for name in imported}
    assert used <= required
    assert required - used <= {"imagecodecs", "magicgui", "qtpy"}  # tifffile and napari use these


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_small_and_named_for_what_they_do(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "misc", "common"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_is_public(path: Path) -> None:
    names = {
        target.id
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert "__all__" in names


def test_the_manifest_stands_at_the_root_too() -> None:
    link = ROOT / "napari.yaml"
    assert link.read_bytes() == (PACKAGE / "napari.yaml").read_bytes()
