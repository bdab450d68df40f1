"""The mask decoder's work recorded once and replayed, where starting kernels is what takes time.

For a click, the mask decoder runs about a hundred small kernels. A GPU is done with each before the
processor has started the next. A CUDA graph starts all of them at once. It is a recording with
fixed addresses: inputs are copied to where they were when it was made, results are copied away.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from napari_sam.core.errors import NapariSamWarning
from napari_sam.model.execution import execution_for, execution_override
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.mask_decoder import MaskDecoder
from napari_sam.model.prompt_encoder import PromptEmbeddings

__all__ = ["CudaGraphs", "GraphBackend", "GraphedCalls", "Recording", "decode_masks"]

Tensors = tuple[Tensor, ...]

_MAX_PROMPTS = 4
"""More prompts at once keep a GPU busy by themselves, and a recording would hold much memory."""

_MAX_SHAPES = 8
"""Recordings of one model that are kept, the last used; each holds all maps of its call."""

_WARM_UPS = 2
"""Calls before a recording, in which libraries choose kernels and take memory for good."""

_TOLERANCE = 1e-3
"""Largest difference between replay and plain call, as a part of the largest number."""


class Recording(NamedTuple):
    """Recorded work.

    Attributes
    ----------
    replay : callable
        Does the work again, from the same inputs' memory into the same outputs' memory.
    outputs : tuple of Tensor
        Where the results lie.
    """

    replay: Callable[[], None]
    outputs: Tensors


class GraphBackend(Protocol):
    """Records work on tensors."""

    def record(self, work: Callable[[], Tensors], device: torch.device) -> Recording:
        """Record ``work``, which reads the same memory of a device whenever it is called.

        Raises
        ------
        RuntimeError
            When it cannot be recorded.
        """
        ...


class CudaGraphs:
    """Records work as CUDA graphs (``torch.cuda.CUDAGraph``).

    All threads of this package use the device's default stream, so that copies and replays of
    several threads follow each other.
    """

    def record(self, work: Callable[[], Tensors], device: torch.device) -> Recording:
        """Record ``work``, after some calls of it on a stream of its own."""
        with torch.cuda.device(device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    work()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # other threads may take memory and copy meanwhile, as they encode the next image
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = work()
        return Recording(graph.replay, outputs)


class GraphedCalls:
    """Calls of functions of tensors, each recorded when it comes for the second time.

    A recording is used once its first replay gave what the plain call gave. Where it does not, or
    cannot be made, all calls are plain from then on, and a warning says so. Several threads may
    share one object.

    Parameters
    ----------
    backend : GraphBackend
        What records.
    max_shapes : int
        Recordings that are kept; the one that was used longest ago goes first.

    Attributes
    ----------
    is_off : bool
        Whether recording has failed, so that all calls are plain.
    """

    def __init__(self, backend: GraphBackend, max_shapes: int = _MAX_SHAPES) -> None:
        self._backend = backend
        self._max_shapes = max_shapes
        self._lock = threading.Lock()
        self._graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()
        self.is_off = False

    def __call__(
        self, function: Callable[..., Tensors], inputs: Sequence[Tensor], variant: Hashable
    ) -> Tensors:
        """Return ``function(*inputs)``.

        Parameters
        ----------
        function : callable
            Takes and returns tensors. Of these, it may depend on nothing but shapes, order in
            memory and dtype except by computing on the device, and remember nothing.
        inputs : sequence of Tensor
        variant : hashable
            All else that the function depends on.

        Returns
        -------
        tuple of Tensor

        Warns
        -----
        NapariSamWarning
            The work cannot be recorded.
        """
        key = (variant, tuple(_layout(tensor) for tensor in inputs))
        with self._lock:
            if not self.is_off and self._knows(key):
                # neither a recording's inputs nor its outputs may belong to the caller's mode
                with torch.inference_mode(False), torch.no_grad():
                    outputs = self._replay(key, function, inputs)
                if outputs is not None:
                    return outputs
        return function(*inputs)

    def _knows(self, key: Hashable) -> bool:
        """Tell whether a call like this has come before, and remember it."""
        is_known = key in self._graphs
        self._graphs.setdefault(key, None)
        self._graphs.move_to_end(key)
        if len(self._graphs) > self._max_shapes:
            self._graphs.popitem(last=False)
        return is_known

    def _replay(
        self, key: Hashable, function: Callable[..., Tensors], inputs: Sequence[Tensor]
    ) -> Tensors | None:
        graph = self._graphs[key]
        if graph is not None:
            return graph.replay(inputs)
        try:
            graph = _Graph(self._backend, function, inputs)
            outputs = graph.replay(inputs)
            _require_same(outputs, function(*inputs))
        except RuntimeError as error:
            self.is_off = True
            self._graphs.clear()
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(
                "The mask decoder runs without a CUDA graph, which is slower for single clicks: "
                f"{reason}. The masks are the same.",
                NapariSamWarning,
                stacklevel=4,
            )
            return None
        self._graphs[key] = graph
        return outputs


class _Graph:
    """A recording with memory for its inputs."""

    def __init__(
        self, backend: GraphBackend, function: Callable[..., Tensors], like: Sequence[Tensor]
    ) -> None:
        # zeros, so that the first replay shows whether the inputs are read
        self._held = [torch.zeros_like(_without_repeats(tensor)) for tensor in like]
        inputs = [held.expand(tensor.shape) for held, tensor in zip(self._held, like, strict=True)]
        self._recording = backend.record(lambda: function(*inputs), like[0].device)

    def replay(self, inputs: Sequence[Tensor]) -> Tensors:
        for held, given in zip(self._held, inputs, strict=True):
            held.copy_(_without_repeats(given))
        self._recording.replay()
        return tuple(output.clone() for output in self._recording.outputs)


_BACKENDS: dict[str, GraphBackend] = {"cuda": CudaGraphs()}
"""What records, by type of device."""

_calls: weakref.WeakKeyDictionary[MaskDecoder, GraphedCalls] = weakref.WeakKeyDictionary()
"""Recordings by model; beside the models, which are copied and sent to other processes."""

_calls_lock = threading.Lock()


def decode_masks(
    decoder: MaskDecoder,
    features: ImageFeatures,
    image_pe: Tensor,
    prompts: PromptEmbeddings,
    masks: slice,
) -> tuple[Tensor, Tensor]:
    """Call the mask decoder, through a recording where the device has use for one.

    That is for a few prompts on CUDA, in evaluation mode and without gradients. The result is the
    same up to rounding.

    Parameters
    ----------
    decoder : MaskDecoder
    features, image_pe, prompts, masks
        As the mask decoder takes them.

    Returns
    -------
    tuple of Tensor
        Low-res logits (N, M, 4h, 4w) and predicted IoU (N, M).

    Warns
    -----
    NapariSamWarning
        The device should record the work, and cannot.
    """
    calls = _calls_of(decoder, prompts)
    if calls is None or calls.is_off:
        logits, predicted_iou = decoder(features, image_pe, prompts, masks)
        return logits, predicted_iou
    n_skips, has_fine = len(features.skips), prompts.dense_fine is not None

    def decode(*maps: Tensor) -> Tensors:
        embedding, pe, sparse, dense, *more = maps
        image = ImageFeatures(embedding, tuple(more[:n_skips]))
        embedded = PromptEmbeddings(sparse, dense, more[-1] if has_fine else None)
        # What is kept with an image or a grid would be kept with the memory that all of them pass
        # through. Plain calls do without it too: they give what a recording of them will.
        with execution_override(shares_image=False, strip_tokens=None):
            logits, predicted_iou = decoder(image, pe, embedded, masks)
        return logits, predicted_iou

    inputs = [features.embedding, image_pe, prompts.sparse, prompts.dense, *features.skips]
    if prompts.dense_fine is not None:
        inputs.append(prompts.dense_fine)
    # a replay reads the weights where they were
    variant = (
        (masks.start, masks.stop, n_skips, has_fine),
        execution_for(image_pe.device),
        tuple(weight.data_ptr() for weight in (*decoder.parameters(), *decoder.buffers())),
    )
    logits, predicted_iou = calls(decode, inputs, variant)
    return logits, predicted_iou


def _calls_of(decoder: MaskDecoder, prompts: PromptEmbeddings) -> GraphedCalls | None:
    """Return the model's recordings; None where the plain call is wanted."""
    device = prompts.sparse.device
    backend = _BACKENDS.get(device.type)
    if (
        backend is None
        or not execution_for(device).uses_graphs
        or decoder.training
        or torch.is_grad_enabled()
        or len(prompts.sparse) > _MAX_PROMPTS
    ):
        return None
    with _calls_lock:
        return _calls.setdefault(decoder, GraphedCalls(backend))


def _layout(tensor: Tensor) -> Hashable:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _without_repeats(tensor: Tensor) -> Tensor:
    """Return the part of an expanded tensor that has memory of its own."""
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[axis] > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def _require_same(replayed: Tensors, plain: Tensors) -> None:
    for ours, expected in zip(replayed, plain, strict=True):
        allowed = _TOLERANCE * max(1.0, float(expected.abs().max()))
        difference = float((ours - expected).abs().max())
        if not difference <= allowed:  # also where it is not a number
            raise RuntimeError(f"a replay differs from the plain call by {difference:.2g}")
