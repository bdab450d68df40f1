"""Half precision is used where masks stay as they are, and only there; bfloat16 on the CPU here."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from napari_sam.core.errors import ConfigError, InputError, NapariSamWarning, OutOfMemoryError
from napari_sam.model import half_precision, load_model
from napari_sam.model.execution import execution_for, execution_override
from napari_sam.model.half_precision import MIN_MEAN_IOU, use_half_precision
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from napari_sam.predict import SamPredictor
from tiny_models import tiny_sam

PIXELS = 255 * torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "_reports", {})


def accept_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights draw ragged masks, which are no measure of a trained model's."""
    monkeypatch.setattr(half_precision, "MIN_MEAN_IOU", 0.0)


def test_the_bundled_model_passes_and_keeps_its_masks() -> None:
    sam = load_model("compact", "cpu")
    with torch.inference_mode():
        exact = sam.encode(PIXELS)
        report = use_half_precision(sam)
        rounded = sam.encode(PIXELS)
    assert report.passed
    assert report.dtype == sam.encoder_dtype == torch.bfloat16
    assert MIN_MEAN_IOU < report.mean_iou < 1
    assert report.lowest_iou <= report.mean_iou
    assert not torch.equal(rounded.embedding, exact.embedding)
    scale = exact.embedding.abs().max()
    assert (rounded.embedding - exact.embedding).abs().max() < 0.05 * scale


def test_a_model_is_loaded_in_half_precision_only_when_asked() -> None:
    assert load_model("compact", "cpu").encoder_dtype == torch.float32
    assert load_model("compact", "cpu", precision="half").encoder_dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="'float32' or in 'half'"):
        load_model("compact", "cpu", precision="fp8")


@pytest.mark.parametrize("kind", ["vit", "tiny_vit", "compact"])
def test_products_of_the_encoder_alone_are_in_half_precision(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_anything(monkeypatch)
    sam = tiny_sam(kind)
    use_half_precision(sam)
    seen: dict[str, set[torch.dtype]] = {"image_encoder": set(), "mask_decoder": set()}
    for part, dtypes in seen.items():
        for module in sam.get_submodule(part).modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.register_forward_hook(lambda m, i, out, dtypes=dtypes: dtypes.add(out.dtype))
    with torch.inference_mode():
        features = sam.encode(PIXELS)
        points = (torch.tensor([[[40.0, 50.0]]]), torch.ones(1, 1, dtype=torch.int64))
        logits, iou = sam.decode(features, points=points, multimask=True)
    assert seen == {"image_encoder": {torch.bfloat16}, "mask_decoder": {torch.float32}}
    given = (features.embedding, *features.skips, logits, iou, *sam.parameters())
    assert {tensor.dtype for tensor in given} == {torch.float32}


def test_masks_that_change_keep_single_precision_and_the_figure_is_said() -> None:
    sam = tiny_sam("vit")
    exact = sam.encode

    def rough(pixels: torch.Tensor, dtype: torch.dtype | None = None) -> ImageFeatures:
        features = exact(pixels, torch.float32)
        return features if dtype == torch.float32 else ImageFeatures(0.5 * features.embedding)

    sam.encode = rough  # type: ignore[method-assign]
    with pytest.warns(NapariSamWarning, match=r"single precision: .*bfloat16 .* 0\.\d{4} .*0\.995"):
        report = use_half_precision(sam)
    assert not report.passed
    assert 0 < report.mean_iou < MIN_MEAN_IOU
    assert (sam.encoder_dtype, sam.digest) == (torch.float32, tiny_sam("vit").digest)


def test_an_encoder_that_cannot_compute_so_is_said() -> None:
    sam = tiny_sam("vit")
    exact = sam.encode

    def mixed(pixels: torch.Tensor, dtype: torch.dtype | None = None) -> ImageFeatures:
        if dtype != torch.float32:
            raise RuntimeError("expected scalar type Float but found BFloat16\nat line 3")
        return exact(pixels, dtype)

    sam.encode = mixed  # type: ignore[method-assign]
    with pytest.warns(NapariSamWarning, match=r"but found BFloat16\.$"):
        assert not use_half_precision(sam).passed
    assert sam.encoder_dtype == torch.float32


def test_too_little_memory_is_an_error_and_no_verdict() -> None:
    sam = tiny_sam("vit")
    exact = sam.encode

    def full(pixels: torch.Tensor, dtype: torch.dtype | None = None) -> ImageFeatures:
        if dtype != torch.float32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return exact(pixels, dtype)

    sam.encode = full  # type: ignore[method-assign]
    with pytest.raises(OutOfMemoryError):
        use_half_precision(sam)
    del sam.encode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NapariSamWarning)
        assert use_half_precision(sam).mean_iou > 0


def test_the_next_dtype_is_tried_and_the_last_one_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def compare(sam: Sam, dtype: torch.dtype) -> half_precision.HalfPrecisionReport:
        tried.append(dtype)
        iou = 0.999 if dtype == torch.float16 else 0.9
        return half_precision.HalfPrecisionReport(dtype, iou, iou)

    monkeypatch.setattr(half_precision, "_compare", compare)
    sam = tiny_sam("vit")
    with execution_override(half_dtypes=(torch.bfloat16, torch.float16)):
        assert use_half_precision(sam).passed
    assert tried == [torch.bfloat16, torch.float16]
    assert sam.encoder_dtype == torch.float16
    with (
        execution_override(half_dtypes=(torch.bfloat16,)),
        pytest.warns(NapariSamWarning, match=r"0\.9000"),
    ):
        assert use_half_precision(tiny_sam("vit")).dtype == torch.bfloat16
    with (
        execution_override(half_dtypes=()),
        pytest.warns(NapariSamWarning, match="float32 only"),
    ):
        assert not use_half_precision(tiny_sam("vit")).passed


def test_the_test_runs_once_for_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    accept_anything(monkeypatch)
    compared = []
    compare = half_precision._compare

    def counting(sam: Sam, dtype: torch.dtype) -> half_precision.HalfPrecisionReport:
        compared.append(sam.digest)
        return compare(sam, dtype)

    monkeypatch.setattr(half_precision, "_compare", counting)
    sam = tiny_sam("vit")
    first = use_half_precision(sam)
    digest = sam.digest
    assert use_half_precision(sam) is first  # asked twice
    assert sam.digest == digest
    assert use_half_precision(tiny_sam("vit")) is first
    use_half_precision(tiny_sam("vit", seed=1))
    for _ in range(2):  # weights that nothing tells apart
        unnamed = tiny_sam("vit")
        unnamed.digest = ""
        use_half_precision(unnamed)
        assert unnamed.digest == ""
    assert len(compared) == 4


def test_embeddings_of_the_two_precisions_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    accept_anything(monkeypatch)
    exact, half = SamPredictor(tiny_sam("compact")), SamPredictor(tiny_sam("compact"))
    use_half_precision(half.sam)
    assert half.sam.digest == f"bfloat16:{exact.sam.digest}"
    image = PIXELS[0].permute(1, 2, 0).to(torch.uint8).numpy()
    embedding = half.encode(image)
    half.predict(embedding, [[50, 60]], [1])
    with pytest.raises(InputError, match="bfloat16:"):
        exact.predict(embedding, [[50, 60]], [1])


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(ConfigError):
        use_half_precision(tiny_sam("vit").train())


def test_images_of_the_test_are_always_the_same_and_show_discs() -> None:
    first, second = half_precision._draw_images(256), half_precision._draw_images(256)
    torch.rand(3)  # chance elsewhere changes nothing
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.pixels, other.pixels)
    bright, dark = first
    assert bright.pixels.shape == (1, 3, 256, 256)
    x, y = bright.points_xy.long().unbind(1)
    assert (bright.pixels[0, 0, y, x] > bright.pixels.median() + 40).all()
    assert (dark.pixels[0, 0, y, x] < dark.pixels.median() - 40).all()


def test_older_gpus_only_emulate_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device", lambda _: warnings.catch_warnings())
    for has_bfloat16, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, has=has_bfloat16: has
        )
        assert half_precision._half_dtypes(device)[0] == expected
    assert torch.float16 not in execution_for(torch.device("cpu")).half_dtypes
