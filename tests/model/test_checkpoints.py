"""Loading weights: right ones, and each way in which they can be wrong."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from local_models import register
from napari_sam.core.errors import CheckpointError, ConfigError, DeviceError, OutOfMemoryError
from napari_sam.model import hashing
from napari_sam.model.builders import build_sam
from napari_sam.model.checkpoints import load_model, read_state_dict
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def compact() -> Sam:
    """The compact architecture with random weights: the smallest that is told by its weights."""
    torch.manual_seed(0)
    return build_sam("compact")


@pytest.fixture
def state(compact: Sam) -> State:
    return dict(compact.state_dict())


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAM_HOME", str(tmp_path / "home"))


def _save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def _assert_holds(sam: Sam, state: State) -> None:
    loaded = sam.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_a_path_gives_a_model_ready_for_inference(state: State, tmp_path: Path) -> None:
    path = _save(state, tmp_path / "mine.pt")
    sam = load_model(path, device="cpu")
    _assert_holds(sam, state)
    assert not sam.training
    assert sam.name == "mine"
    assert sam.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {tensor.device.type for tensor in (*sam.parameters(), *sam.buffers())} == {"cpu"}


def test_a_loaded_model_computes_as_the_saved_one(compact: Sam, tmp_path: Path) -> None:
    path = _save(compact.state_dict(), tmp_path / "mine.pt")
    loaded = load_model(str(path), device="cpu")
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    compact.eval()
    with torch.inference_mode():
        expected = compact.encode(pixels).embedding
        assert torch.equal(loaded.encode(pixels).embedding, expected)


def test_a_loaded_model_decodes_as_the_saved_one(compact: Sam, tmp_path: Path) -> None:
    path = _save(compact.state_dict(), tmp_path / "mine.pt")
    loaded = load_model(str(path), device="cpu")
    assert _is_channels_last(loaded)
    assert not _is_channels_last(compact)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    points = (torch.tensor([[[20.0, 30.0]]]), torch.tensor([[1]]))
    compact.eval()
    with torch.inference_mode():
        features = compact.encode(pixels)
        expected = compact.decode(features, points=points, multimask=True)
        found = loaded.decode(features, points=points, multimask=True)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def _is_channels_last(sam: Sam) -> bool:
    weights = [*sam.mask_decoder.parameters(), *sam.prompt_encoder.parameters()]
    maps = [weight for weight in weights if weight.ndim == 4]
    return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in maps)


def test_half_precision_safetensors_become_float32(state: State, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    sam = load_model(path, device="cpu")
    assert {p.dtype for p in sam.parameters()} == {torch.float32}
    key = "image_encoder.stem.conv.weight"
    assert torch.equal(sam.state_dict()[key], state[key].half().float())


@pytest.mark.parametrize("wrapper", ["model_state", "state_dict", "model", "model_state_dict"])
def test_a_trainers_checkpoint_is_unwrapped(wrapper: str, state: State, tmp_path: Path) -> None:
    """As micro-sam saves it: a prefix, and beside the model a decoder that is left alone."""
    content = {
        wrapper: {f"sam.{key}": value for key, value in state.items()},
        "decoder_state": {"out_conv.weight": torch.zeros(3, 64, 1, 1)},
        "iteration": 25000,
    }
    _assert_holds(load_model(_save(content, tmp_path / "best.pt"), device="cpu"), state)


def test_a_registered_model_loads_by_name(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "home" / "models" / "local.pt"
    target.parent.mkdir(parents=True)
    register(monkeypatch, _save(state, target).read_bytes())
    sam = load_model("local", device="cpu")
    _assert_holds(sam, state)
    assert sam.name == "local"


def test_mobile_sam_loads_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = dict(build_sam("vit_t").state_dict())
    _assert_holds(load_model(_save(state, tmp_path / "mobile_sam.pt"), device="cpu"), state)


def test_an_official_model_may_have_an_instance_head(tmp_path: Path) -> None:
    sam = build_sam("vit_t", instance_head=True)
    torch.save(sam.state_dict(), tmp_path / "with_head.pt")
    loaded = load_model(tmp_path / "with_head.pt", device="cpu")
    assert loaded.instance_head is not None
    features = ImageFeatures(torch.zeros(1, 256, 6, 6))
    assert loaded.instance_head(features).centre.shape == (1, 12, 12)


def test_a_registered_file_with_another_hash_is_not_read(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "home" / "models" / "local.pt"
    target.parent.mkdir(parents=True)
    content = _save(state, target).read_bytes()
    register(monkeypatch, content)
    target.write_bytes(content[:-1] + b"?")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("was read"))
    with pytest.raises(CheckpointError, match=r"published file of local.*damaged"):
        load_model("local", device="cpu")


def test_weights_that_are_not_here_name_the_command() -> None:
    with pytest.raises(CheckpointError, match=r"napari-sam models download vit_b.*import vit_b"):
        load_model("vit_b", device="cpu")


def test_a_package_without_its_weights_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.model.store._BUNDLED", tmp_path)
    with pytest.raises(CheckpointError, match="Install the package again"):
        load_model("compact", device="cpu")


def test_an_unknown_name_gets_close_names() -> None:
    with pytest.raises(ConfigError, match="Did you mean compact"):
        load_model("compct", device="cpu")


@pytest.mark.parametrize("path", ["nothing.pt", os.path.join("a", "folder"), Path("plain")])
def test_a_path_to_nothing(path: str | Path) -> None:
    with pytest.raises(CheckpointError, match="There is no weights file"):
        load_model(path, device="cpu")


def test_an_absent_device_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError):
        load_model("vit_b", device="cuda")


def test_too_little_memory_is_not_taken_for_damage(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(state, tmp_path / "mine.pt")

    def run_out(*args: object, **kwargs: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 GB")

    monkeypatch.setattr(torch, "load", run_out)
    with pytest.raises(OutOfMemoryError, match="2 GB"):
        load_model(path, device="cpu")


class _Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(zipped: bool, state: State, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    path = tmp_path / "evil.pt"
    content = {**state, "extra": _Malicious(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"more than weights.*mkdir.*never runs code"):
        load_model(path, device="cpu")
    assert not proof.exists()


def test_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(_Malicious(proof), protocol=2))
    with pytest.raises(CheckpointError, match=r"more than weights.*mkdir"):
        load_model(path, device="cpu")
    assert not proof.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_truncated_file(share: float, suffix: str, state: State, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cannot be read as weights.*get it again"):
        load_model(path, device="cpu")


def test_a_truncated_file_of_the_old_format(state: State, tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        load_model(path, device="cpu")


def _html() -> bytes:
    return b"<!DOCTYPE html><html><title>Sign in</title></html>"


def _other_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    return buffer.getvalue()


@pytest.mark.parametrize("content", [_html(), _other_zip(), b"\x00" * 4096])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        load_model(path, device="cpu")


@pytest.mark.parametrize(
    "content", [{}, {"a": 1}, [torch.zeros(1)], torch.zeros(3), {"model": {"a": "b"}}, {1: 2}]
)
def test_no_state_dict(content: object, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no state dict.*model.state_dict\(\)"):
        load_model(_save(content, tmp_path / "odd.pt"), device="cpu")


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = _save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(CheckpointError, match=r"2 tensors: bias, weight.*vit_b, vit_l"):
        load_model(path, device="cpu")


def test_missing_and_unexpected_weights(state: State, tmp_path: Path) -> None:
    del state["mask_decoder.iou_token.weight"]
    state["lora.A"] = torch.zeros(1)
    with pytest.raises(
        CheckpointError,
        match=r"1 missing weights \(mask_decoder.iou_token.weight\) and 1 unexpected weights "
        r"\(lora.A\).*compact model",
    ):
        load_model(_save(state, tmp_path / "part.pt"), device="cpu")


def test_many_names_are_shortened(state: State, tmp_path: Path) -> None:
    kept = {k: v for k, v in state.items() if not k.startswith("mask_decoder.")}
    with pytest.raises(CheckpointError, match=r"missing weights \(.*and \d+ more\)"):
        load_model(_save(kept, tmp_path / "part.pt"), device="cpu")


def test_a_weight_of_another_shape(state: State, tmp_path: Path) -> None:
    key = "mask_decoder.iou_token.weight"
    state[key] = torch.zeros(1, 7)
    with pytest.raises(CheckpointError, match=rf"{key} is \(1, 7\) instead of \(1, 128\)"):
        load_model(_save(state, tmp_path / "wide.pt"), device="cpu")


def test_reading_keeps_whole_numbers(tmp_path: Path) -> None:
    content = {"a": torch.arange(3), "b": torch.zeros(2, dtype=torch.bfloat16)}
    state = read_state_dict(_save(content, tmp_path / "mixed.pt"))
    assert state["a"].dtype == torch.int64
    assert state["b"].dtype == torch.float32


@pytest.mark.parametrize("size", [0, 1, (1 << 14) + 3, (1 << 20) + 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_size_become_float32(size: int, dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)
    content = {
        "flat": values,
        "turned": values.expand(3, size).T,
        "one": torch.tensor(2.5).to(dtype),
    }
    state = read_state_dict(_save(content, tmp_path / "weights.pt"))
    for key, value in content.items():
        assert state[key].dtype == torch.float32
        assert torch.equal(state[key], value.float())


def test_building_a_model_imports_no_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from napari_sam.model import build_sam, checkpoints\n"
        "from napari_sam.model.registry import ARCHITECTURES\n"
        "checkpoints.load_model('compact', 'cpu')\n"
        "for architecture in ARCHITECTURES:\n"
        "    with torch.device('meta'), checkpoints._NoRandomNumbers():\n"
        "        build_sam(architecture)\n"
        "sys.exit(bool({'torch._dynamo', 'sympy'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _mapped_files() -> str:
    return Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is mapped")
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_weights_are_mapped_where_the_file_allows_it(
    kind: str, state: State, tmp_path: Path
) -> None:
    path = tmp_path / ("mine.safetensors" if kind == "safetensors" else "mine.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    sam = load_model(path, device="cpu")
    assert (str(path) in _mapped_files()) == (kind != "legacy")
    _assert_holds(sam, state)
    del sam
    gc.collect()
    assert str(path) not in _mapped_files()


@pytest.mark.skipif(sys.platform == "win32", reason="there, a file in use stays")
@pytest.mark.parametrize("removed", [True, False])
def test_a_model_outlives_its_file(removed: bool, state: State, tmp_path: Path) -> None:
    path = _save(state, tmp_path / "mine.pt")
    sam = load_model(path, device="cpu")
    if removed:
        path.unlink()
    else:
        other = _save({k: torch.zeros_like(v) for k, v in state.items()}, tmp_path / "other.pt")
        os.replace(other, path)
    _assert_holds(sam, state)


def test_training_a_loaded_model_leaves_its_file_alone(state: State, tmp_path: Path) -> None:
    path = _save(state, tmp_path / "mine.pt")
    before = path.read_bytes()
    sam = load_model(path, device="cpu")
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before
    _assert_holds(load_model(path, device="cpu"), state)


def test_each_call_gives_a_model_of_its_own(state: State, tmp_path: Path) -> None:
    path = _save(state, tmp_path / "mine.pt")
    changed, other = load_model(path, device="cpu"), load_model(path, device="cpu")
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(1.0)
    _assert_holds(other, state)
    assert torch.equal(changed.pixel_mean, other.pixel_mean)


def test_a_model_that_is_loaded_again_is_hashed_once(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "SETTLED_SECONDS", -1.0)
    target = tmp_path / "home" / "models" / "local.pt"
    target.parent.mkdir(parents=True)
    content = _save(state, target).read_bytes()
    register(monkeypatch, content)
    digest = load_model("local", device="cpu").digest
    with monkeypatch.context() as patched:
        patched.setattr(hashing, "hash_file", lambda *_: pytest.fail("was read again"))
        assert load_model("local", device="cpu").digest == digest
    target.write_bytes(content[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"published file of local.*damaged"):
        load_model("local", device="cpu")
