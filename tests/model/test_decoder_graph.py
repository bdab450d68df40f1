"""Recorded calls of the mask decoder give what plain calls give; a stand-in records on the CPU."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from napari_sam.core.errors import NapariSamWarning
from napari_sam.model import decoder_graph
from napari_sam.model.decoder_graph import CudaGraphs, GraphedCalls, Recording
from napari_sam.model.execution import execution_for, execution_override
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from tiny_models import tiny_sam

CPU = torch.device("cpu")
Work = Callable[[], tuple[Tensor, ...]]


class Recorder:
    """Does with a callable what a CUDA graph does with kernels: same memory in, same memory out."""

    def __init__(self) -> None:
        self.n_recorded = 0
        self.n_replayed = 0
        self.shares_image: list[bool] = []

    def record(self, work: Work, device: torch.device) -> Recording:
        self.n_recorded += 1
        outputs = work()

        def replay() -> None:
            self.n_replayed += 1
            for output, now in zip(outputs, work(), strict=True):
                output.copy_(now)

        return Recording(replay, outputs)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    backend = Recorder()
    monkeypatch.setitem(decoder_graph._BACKENDS, "cpu", backend)
    with execution_override(uses_graphs=True):
        yield backend


@pytest.fixture(params=["vit", "compact"])
def sam(request: pytest.FixtureRequest) -> Sam:
    return tiny_sam(request.param)


def features_of(sam: Sam, seed: int = 0) -> ImageFeatures:
    pixels = 255 * torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return sam.encode(pixels)


def points_at(x: float, n_points: int = 1, count: int = 1) -> tuple[Tensor, Tensor]:
    coords = torch.linspace(x, x + 40, count * n_points * 2).reshape(count, n_points, 2)
    return coords, torch.ones(count, n_points, dtype=torch.int64)


def prompts_of(kind: str, x: float) -> dict[str, object]:
    if kind == "box":
        return {"boxes": torch.tensor([[x, x, x + 30, x + 40]])}
    if kind == "mask":
        return {"points": points_at(x), "mask_logits": torch.full((1, 1, 32, 32), x / 10)}
    return {"points": points_at(x)}


def plain(sam: Sam, features: ImageFeatures, **prompts: object) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(), execution_override(uses_graphs=False):
        return sam.decode(features, **prompts)


def assert_same(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(ours, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["point", "box", "mask"])
@pytest.mark.parametrize("multimask", [True, False])
def test_replays_follow_image_and_prompts(sam: Sam, recorder: Recorder, kind, multimask) -> None:
    for seed, x in enumerate((20.0, 33.0, 47.0, 60.0)):
        features, prompts = features_of(sam, seed), prompts_of(kind, x)
        with torch.inference_mode():
            ours = sam.decode(features, multimask=multimask, **prompts)
        assert_same(ours, plain(sam, features, multimask=multimask, **prompts))
    assert recorder.n_recorded == 1
    assert recorder.n_replayed == 3  # the first call of a shape is plain


def test_features_of_a_window_and_of_each_prompt_are_read(sam: Sam, recorder: Recorder) -> None:
    for seed in range(3):
        whole, other = features_of(sam, seed), features_of(sam, seed + 9)
        pair = ImageFeatures(
            torch.cat([whole.embedding, other.embedding]),
            tuple(torch.cat(skips) for skips in zip(whole.skips, other.skips, strict=True)),
        )
        points = points_at(20.0 + seed, count=2)
        with torch.inference_mode():
            ours = sam.decode(pair, points=points, multimask=True)
        assert_same(ours, plain(sam, pair, points=points, multimask=True))
    assert recorder.n_recorded == 1


def test_what_is_returned_is_the_callers_own(sam: Sam, recorder: Recorder) -> None:
    features = features_of(sam)
    with torch.inference_mode():
        sam.decode(features, points=points_at(20), multimask=True)
        first = sam.decode(features, points=points_at(20), multimask=True)
        kept = [part.clone() for part in first]
        sam.decode(features, points=points_at(60), multimask=True)
    assert recorder.n_replayed == 2
    assert all(torch.equal(one, other) for one, other in zip(first, kept, strict=True))


def test_one_recording_serves_inference_mode_and_no_grad(recorder: Recorder) -> None:
    sam = tiny_sam("compact")
    features = features_of(sam)
    expected = plain(sam, features, points=points_at(20), multimask=True)
    recorded_in = torch.inference_mode
    for mode in (recorded_in, recorded_in, torch.no_grad, torch.no_grad, torch.inference_mode):
        with mode():
            assert_same(sam.decode(features, points=points_at(20), multimask=True), expected)
    assert recorder.n_recorded == 1


def test_gradients_training_and_many_prompts_are_never_recorded(recorder: Recorder) -> None:
    sam = tiny_sam("vit")
    features = ImageFeatures(features_of(sam).embedding.clone())
    for _ in range(3):
        logits, _ = sam.decode(features, points=points_at(20), multimask=True)
        assert logits.requires_grad
        with torch.no_grad():
            sam.decode(features, points=points_at(20, count=5), multimask=True)
            sam.train().decode(features, points=points_at(20), multimask=True)
        sam.eval()
    assert recorder.n_recorded == 0


def test_a_cpu_records_nothing_and_cuda_does(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Recorder()
    monkeypatch.setitem(decoder_graph._BACKENDS, "cpu", backend)
    sam = tiny_sam("vit")
    features = features_of(sam)
    with torch.inference_mode():
        for _ in range(3):
            sam.decode(features, points=points_at(20), multimask=True)
    assert backend.n_recorded == 0
    assert [execution_for(torch.device(d)).uses_graphs for d in ("cpu", "mps", "cuda")] == [
        False,
        False,
        True,
    ]


def test_what_is_kept_with_an_image_is_not_kept_with_a_recording(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam = tiny_sam("vit")
    features, seen = features_of(sam), []
    forward = sam.mask_decoder.forward

    def watched(*args: object) -> object:
        choices = execution_for(CPU)
        seen.append(choices.shares_image or choices.strip_tokens is not None)
        return forward(*args)

    monkeypatch.setattr(sam.mask_decoder, "forward", watched)
    with torch.inference_mode():
        for _ in range(2):
            sam.decode(features, points=points_at(20), multimask=True)
        assert seen
        assert not any(seen)  # nor in the first call, which is plain: it gives what replays give
        with execution_override(uses_graphs=False):
            sam.decode(features, points=points_at(20), multimask=True)
    assert seen[-1]


def test_the_shapes_used_last_are_kept(recorder: Recorder) -> None:
    calls = GraphedCalls(recorder, max_shapes=2)
    one, two, three = (torch.arange(n) + 1.0 for n in (1, 2, 3))

    def double(tensor: Tensor) -> tuple[Tensor]:
        return (2 * tensor,)

    with torch.no_grad():
        for tensor in (one, one, two, two, one, three, three):
            assert torch.equal(calls(double, [tensor], "double")[0], 2 * tensor)
        assert recorder.n_recorded == 3
        calls(double, [one], "double")  # still known
        assert recorder.n_recorded == 3
        calls(double, [two], "double")  # forgotten: plain, then recorded anew
        assert recorder.n_recorded == 3
        calls(double, [two], "double")
        assert recorder.n_recorded == 4


def test_expanded_inputs_take_the_memory_of_one(recorder: Recorder) -> None:
    calls, sizes = GraphedCalls(recorder), []

    def total(tensor: Tensor) -> tuple[Tensor]:
        sizes.append(tensor.untyped_storage().nbytes())
        return (tensor.sum(dim=1),)

    with torch.no_grad():
        for value in (1.0, 2.0, 3.0):
            given = torch.tensor([[value], [2 * value]]).expand(2, 50)
            found = calls(total, [given], None)[0]
            assert torch.equal(found, torch.tensor([50 * value, 100 * value]))
    assert recorder.n_recorded == 1
    assert max(sizes) == 8


def test_weights_changed_in_place_are_seen_and_moved_ones_recorded_anew(recorder: Recorder) -> None:
    sam = tiny_sam("vit")
    features = features_of(sam)

    def check() -> None:
        with torch.inference_mode():
            ours = sam.decode(features, points=points_at(20), multimask=True)
        assert_same(ours, plain(sam, features, points=points_at(20), multimask=True))

    check()
    check()
    other = tiny_sam("vit", seed=1)
    sam.load_state_dict(other.state_dict())
    check()
    assert recorder.n_recorded == 1
    sam.load_state_dict(tiny_sam("vit", seed=2).state_dict(), assign=True)
    check()
    check()
    assert recorder.n_recorded == 2


def test_recordings_go_with_their_model(recorder: Recorder) -> None:
    sam = tiny_sam("vit")
    features = features_of(sam)
    with torch.inference_mode():
        sam.decode(features, points=points_at(20), multimask=True)
    assert sam.mask_decoder in decoder_graph._calls
    n_models = len(decoder_graph._calls)
    del sam
    gc.collect()
    assert len(decoder_graph._calls) < n_models


class Failing:
    """Cannot record."""

    def __init__(self) -> None:
        self.n_tried = 0

    def record(self, work: Work, device: torch.device) -> Recording:
        self.n_tried += 1
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA_LAUNCH_BLOCKING")


class Deaf(Failing):
    """Replays what it recorded, whatever the inputs are now."""

    def record(self, work: Work, device: torch.device) -> Recording:
        self.n_tried += 1
        return Recording(lambda: None, work())


@pytest.mark.parametrize(
    ("backend", "reason"),
    [(Failing(), "not permitted when stream is capturing. "), (Deaf(), "a replay differs from")],
)
def test_what_cannot_be_recorded_is_said_once_and_computed_plainly(
    backend: Failing, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(decoder_graph._BACKENDS, "cpu", backend)
    sam = tiny_sam("compact")
    features = features_of(sam)
    expected = plain(sam, features, points=points_at(20), multimask=True)
    shares, forward = [], sam.mask_decoder.forward

    def watched(*args: object) -> object:
        shares.append(execution_for(CPU).shares_image)
        return forward(*args)

    monkeypatch.setattr(sam.mask_decoder, "forward", watched)

    def decode() -> None:
        with torch.inference_mode(), execution_override(uses_graphs=True):
            assert_same(sam.decode(features, points=points_at(20), multimask=True), expected)

    decode()
    with pytest.warns(NapariSamWarning, match=reason):
        decode()
    assert not any(shares)
    decode()
    assert shares[-1]  # as on a device that records nothing
    assert backend.n_tried == 1


def test_several_threads_share_a_recording(recorder: Recorder) -> None:
    sam = tiny_sam("compact")
    features = features_of(sam)
    places = [20.0 + i for i in range(24)]
    expected = [plain(sam, features, points=points_at(x), multimask=True) for x in places]

    def decode(x: float) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(), execution_override(uses_graphs=True):
            return sam.decode(features, points=points_at(x), multimask=True)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(decode, places))
    for ours, other in zip(found, expected, strict=True):
        assert_same(ours, other)
    assert recorder.n_recorded == 1


def test_cuda_work_is_warmed_up_on_another_stream_then_captured_for_this_thread_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Order and arguments of the calls; that CUDA takes them, only a GPU can show."""
    said: list[str] = []

    @contextmanager
    def within(name: str, *_: object, **options: object) -> Iterator[None]:
        said.append(f"enter {name} {options}" if options else f"enter {name}")
        yield
        said.append(f"leave {name}")

    def stream(name: str) -> SimpleNamespace:
        return SimpleNamespace(wait_stream=lambda other: said.append(f"{name} waits"))

    graph = SimpleNamespace(replay=lambda: said.append("replay"))
    assert "capture_error_mode" in inspect.signature(torch.cuda.graph).parameters
    monkeypatch.setattr(torch.cuda, "device", lambda *_: within("device"))
    monkeypatch.setattr(torch.cuda, "stream", lambda *_: within("side"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream("main"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda *a, **options: within("capture", **options))

    def work() -> tuple[Tensor]:
        said.append("work")
        return (torch.ones(1),)

    recording = CudaGraphs().record(work, torch.device("cuda:1"))
    recording.replay()
    assert said == [
        "enter device",
        "side waits",
        "enter side",
        "work",
        "work",
        "leave side",
        "main waits",
        "enter capture {'capture_error_mode': 'thread_local'}",
        "work",
        "leave capture",
        "leave device",
        "replay",
    ]
    assert torch.equal(recording.outputs[0], torch.ones(1))
