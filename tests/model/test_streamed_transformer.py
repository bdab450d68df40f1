"""One prompt in strips, with what all prompts share kept, equals the plain two-way transformer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from napari_sam.model.decoder_plan import DecoderPlan
from napari_sam.model.execution import execution_override
from napari_sam.model.layers import ImageFeatures, ImageIdentity
from napari_sam.model.mask_decoder import ALL_MASKS, MULTIMASK
from napari_sam.model.sam import Sam
from napari_sam.model.streamed_transformer import StreamedTransformer
from napari_sam.model.transformer import TwoWayTransformer
from tiny_models import randomise, tiny_sam

CHANNELS, GRID = 32, (5, 7)
N_KEYS = GRID[0] * GRID[1]


def transformer(depth: int = 2) -> TwoWayTransformer:
    torch.manual_seed(0)
    built = TwoWayTransformer(depth, CHANNELS, 4, 64)
    randomise(built)
    return built.double().eval()


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def plain(model: TwoWayTransformer, tokens: Tensor, keys: Tensor, pe: Tensor) -> list[Tensor]:
    """With gradients, which the plain computation alone has."""
    image = keys.T.reshape(1, CHANNELS, *GRID)
    tokens, keys = model(image, pe, tokens[None])
    assert keys.requires_grad
    return [tokens[0].detach(), keys[0].detach()]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("strip", [1, 8, 35, 1000])
@pytest.mark.parametrize("n_tokens", [1, 7])
def test_strips_equal_the_plain_computation(depth: int, strip: int, n_tokens: int) -> None:
    model = transformer(depth)
    tokens, keys = random(n_tokens, CHANNELS), random(N_KEYS, CHANNELS)
    pe = random(1, CHANNELS, *GRID)
    expected = plain(model, tokens, keys, pe)
    with torch.no_grad():
        streamed = StreamedTransformer(model, pe[0].flatten(1).T, strip)
        for image in (keys, streamed.share(keys)):
            for found, wanted in zip(streamed(tokens, image), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_plan_computes_what_an_image_shares_once_and_forgets_old_images() -> None:
    model, pe = transformer(), random(1, CHANNELS, *GRID)
    with torch.no_grad():
        plan = DecoderPlan(model, 8)
        images = {ImageIdentity(): random(N_KEYS, CHANNELS) for _ in range(3)}
        asked: list[int] = []
        for _ in range(2):
            for number, (identity, keys) in enumerate(images.items()):
                for _ in range(2):
                    tokens = random(4, CHANNELS)

                    def make(number: int = number, keys: Tensor = keys) -> Tensor:
                        asked.append(number)
                        return keys

                    found = plan.decode_shared(tokens, make, pe, identity)
                    with torch.enable_grad():
                        expected = plain(model, tokens, keys, pe)
                    torch.testing.assert_close(list(found), expected)
    assert asked == [0, 1, 2, 0, 1, 2]  # two are kept: the third drives out the first


def features_of(sam: Sam, *, kept: bool = True) -> ImageFeatures:
    grid = sam.input_spec.size // sam.input_spec.stride
    embedding = torch.randn(1, sam.prompt_encoder.embed_dim, grid, grid)
    return ImageFeatures(embedding, (), ImageIdentity() if kept else None)


def decoded(sam: Sam, features: ImageFeatures, count: int = 3) -> tuple[Tensor, Tensor]:
    points = torch.arange(2.0 * count).reshape(count, 1, 2) * 9 % 100
    with torch.inference_mode():
        return sam.decode(features, points=(points, torch.ones(count, 1)), multimask=True)


@pytest.mark.parametrize(
    "choices",
    [
        {"strip_tokens": None},
        {"strip_tokens": 16},
        {"shares_image": False},
        {"folds_projections": False},
        {"strip_tokens": None, "folds_projections": False},
    ],
    ids=str,
)
def test_every_choice_gives_the_same_masks(choices: dict[str, object]) -> None:
    sam = tiny_sam("vit")
    features = features_of(sam)
    expected = decoded(sam, features)
    with execution_override(**choices):
        torch.testing.assert_close(decoded(sam, features), expected, rtol=1e-4, atol=1e-5)


def test_features_that_nobody_keeps_give_the_same_masks() -> None:
    sam = tiny_sam("vit")
    features = features_of(sam)
    for count in (1, 3):
        expected = decoded(sam, features, count)
        found = decoded(sam, features._replace(identity=None), count)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_changed_weights_are_seen() -> None:
    sam = tiny_sam("vit")
    features = features_of(sam)
    before = decoded(sam, features)[0]
    with torch.no_grad():
        sam.mask_decoder.transformer.layers[0].norm4.weight.mul_(1.5)
    after = decoded(sam, features)[0]
    assert (after - before).abs().max() > 1e-3
    fresh = tiny_sam("vit")
    fresh.load_state_dict(sam.state_dict())
    torch.testing.assert_close(decoded(fresh, features)[0], after)


def test_a_copy_of_a_model_that_has_decoded_has_weights_of_its_own() -> None:
    sam = tiny_sam("vit")
    features = features_of(sam)
    expected = decoded(sam, features)[0]
    twin = copy.deepcopy(sam)
    with torch.no_grad():
        for weight in sam.mask_decoder.transformer.parameters():
            weight.zero_()
    torch.testing.assert_close(decoded(twin, features)[0], expected)


def test_a_few_tokens_stream_through_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = tiny_sam("vit")
    calls: list[int] = []
    stream = StreamedTransformer.__call__

    def counted(self: StreamedTransformer, tokens: Tensor, image: object) -> object:
        calls.append(len(tokens))
        return stream(self, tokens, image)

    monkeypatch.setattr(StreamedTransformer, "__call__", counted)
    decoded(sam, features_of(sam), count=3)
    assert calls == [7, 7, 7]


def test_many_tokens_take_the_plain_way() -> None:
    sam = tiny_sam("vit")
    features = features_of(sam)
    many = sam.mask_decoder.transformer.few_tokens + 1
    points = (torch.rand(1, many, 2) * 100, torch.ones(1, many))
    with torch.inference_mode():
        found = sam.decode(features, points=points, multimask=True)
    with torch.enable_grad():
        expected = sam.decode(features, points=points, multimask=True)
    torch.testing.assert_close(found, tuple(part.detach() for part in expected))


def test_prompts_one_by_one_equal_a_batch_with_masks_of_their_own() -> None:
    sam = tiny_sam("vit")
    features = features_of(sam)
    grid = features.embedding.shape[-2:]
    side = 4 * grid[0]
    prompts = sam.prompt_encoder(None, torch.rand(3, 4) * 100, torch.randn(3, 1, side, side), grid)
    pe = sam.prompt_encoder.dense_pe((grid[0], grid[1]))
    with torch.no_grad():
        one_by_one = list(sam.mask_decoder.decode_each(features, pe, prompts, MULTIMASK))
        batch = sam.mask_decoder.decode_tokens(features, pe, prompts, MULTIMASK)
        logits, iou = sam.mask_decoder(features, pe, prompts, ALL_MASKS)
    for index, single in enumerate(one_by_one):
        for part, whole in zip(single, batch, strict=True):
            torch.testing.assert_close(part[0], whole[index], rtol=1e-4, atol=1e-5)
    assert logits.shape == (3, 4, side, side)
    torch.testing.assert_close(iou[:, 1:], batch.predicted_iou, rtol=1e-4, atol=1e-5)
