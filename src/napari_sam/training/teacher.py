"""The model that a student learns from, and the model that comes out: its parts and the student's.

Zhang et al. 2023 ("Faster Segment Anything", MobileSAM, section 3.2) train the image encoder alone,
so that the mask decoder need not change: it is the teacher's, as it is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.errors import ConfigError
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.model import build_sam, detect_architecture, translate_torch_errors
from napari_sam.model.checkpoints import build_from_state
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from napari_sam.model.weight_files import read_state_dict
from napari_sam.training.distill_data import DistillImage, frame_pixels

__all__ = ["Teacher", "build_student", "join_to_teacher"]

_NO_LIMIT = 2**62


class Teacher:
    """A frozen model whose embeddings are computed once and kept on the disk.

    They are rounded to half precision before their first use, so that a run that computes them and
    one that finds them learn the same. Where the folder cannot be written, they are computed again.

    Parameters
    ----------
    sam : Sam
        The model; it is frozen from now on.
    folder : Path
        Where its embeddings are.
    """

    def __init__(self, sam: Sam, folder: Path) -> None:
        self.sam = sam.eval().requires_grad_(False)
        self.cache = EmbeddingCache(folder, budget_bytes=_NO_LIMIT)

    def batch(self, images: list[DistillImage]) -> ImageFeatures:
        """Return the features of images, (B, C, h, w), on the model's device."""
        stored = [self.maps(image) for image in images]
        embedding, *skips = [
            torch.from_numpy(np.stack(level)).to(self.sam.device).float()
            for level in zip(*stored, strict=True)
        ]
        return ImageFeatures(embedding, tuple(skips))

    def maps(self, image: DistillImage) -> list[NDArray[np.float16]]:
        """Look up or compute the maps of an image: the embedding (C, h, w), then the skips."""
        key = self._key(image.pixels)
        stored = self.cache.get(key)
        if stored is None:
            stored = {str(level): values for level, values in enumerate(self._encode(image))}
            self.cache.put(key, stored)
        return [stored[name] for name in sorted(stored)]

    @torch.no_grad()
    def _encode(self, image: DistillImage) -> list[NDArray[np.float16]]:
        with translate_torch_errors():
            features = self.sam.encode(frame_pixels([image], self.sam))
            levels: list[Tensor] = [features.embedding, *features.skips]
            return [level[0].half().cpu().numpy() for level in levels]

    def _key(self, pixels: NDArray[np.uint8]) -> str:
        content = hashlib.sha256(pixels.tobytes())
        content.update(f"{self.sam.digest} {self.sam.input_spec} {pixels.shape}".encode())
        return content.hexdigest()


def build_student(student: str) -> Sam:
    """Build a model with random weights of an architecture, or with the weights of a file.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    CheckpointError
        If the file cannot be read, or its weights are not those of an architecture.
    """
    path = Path(student)
    if not path.suffix:
        return build_sam(student)
    state = read_state_dict(path)
    architecture = detect_architecture(state)
    checked = build_from_state(architecture, state, source=str(path))
    sam = build_sam(architecture)  # weights of its own: those of `checked` may be mapped
    sam.load_state_dict(checked.state_dict())
    return sam


def join_to_teacher(student: Sam, teacher: Sam) -> Sam:
    """Put a student's image encoder before all other parts of its teacher.

    Parameters
    ----------
    student : Sam
        A whole model; only its image encoder is taken.
    teacher : Sam
        What the student learns from.

    Returns
    -------
    Sam
        A model that shares its parts with both.

    Raises
    ------
    ConfigError
        If the embedding of the student has another shape, or is one of other pixels, or if its
        architecture has other parts behind the image encoder.
    """
    same_input = student.input_spec == teacher.input_spec
    if not same_input or _embedding_shape(student) != _embedding_shape(teacher):
        raise _unlike(f"{_describe(student, 'student')}, {_describe(teacher, 'teacher')}")
    joined = Sam(
        student.image_encoder,
        teacher.prompt_encoder,
        teacher.mask_decoder,
        teacher.instance_head,
        student.input_spec,
    )
    before, after = (
        {name: value.shape for name, value in sam.state_dict().items()} for sam in (student, joined)
    )
    if before != after:
        name = next(name for name in {**before, **after} if before.get(name) != after.get(name))
        raise _unlike(f"The teacher's {name} has no like in the student's architecture")
    return joined.to(teacher.device)


def _embedding_shape(sam: Sam) -> tuple[int, int, int]:
    cells = sam.input_spec.size // sam.input_spec.stride
    return sam.prompt_encoder.embed_dim, cells, cells


def _describe(sam: Sam, role: str) -> str:
    spec = sam.input_spec
    kind = "native pixels" if spec.native_resolution else "pixels of an image resized to it"
    return (
        f"the {role}'s embedding has shape {_embedding_shape(sam)} for {spec.size} x {spec.size} "
        f"{kind}"
    )


def _unlike(given: str) -> ConfigError:
    return ConfigError(
        given[0].upper() + given[1:],
        rule="A student's image embedding has the shape of its teacher's, for the same pixels",
        cure="Take student = 'vit_t' for a ViT teacher, or 'compact' for a compact one",
    )
