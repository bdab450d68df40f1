"""The models known by name: architecture, source, size, hash, licence and citation."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from types import MappingProxyType

from napari_sam.core.errors import ConfigError
from napari_sam.model.hashing import FileHash

__all__ = ["ARCHITECTURES", "MODELS", "ModelEntry", "find_model"]

ARCHITECTURES = ("vit_b", "vit_l", "vit_h", "vit_t", "compact")


@dataclass(frozen=True)
class ModelEntry:
    """What is known of a model before its weights are at hand.

    Attributes
    ----------
    name : str
        Name in the registry.
    architecture : str
        One of `ARCHITECTURES`.
    file_name : str
        Name of the weights file in the model directory, or in the package.
    url : str or None
        Source of the weights; None where they are part of the package.
    size_bytes : int or None
        Size of the file; None where it is part of the package.
    size_is_exact : bool
        The size is published to the byte; otherwise it is that of the same architecture.
    file_hash : FileHash or None
        Published hash of the file; None where it is part of the package, which is checked when
        it is installed.
    license : str
        SPDX identifier of the weights' licence.
    citation : str
        The work to cite.
    description : str
        One line on what the model is for.
    """

    name: str
    architecture: str
    file_name: str
    url: str | None
    size_bytes: int | None
    size_is_exact: bool
    file_hash: FileHash | None
    license: str
    citation: str
    description: str

    @property
    def is_bundled(self) -> bool:
        """The weights are part of the package."""
        return self.url is None


_SAM = "Kirillov et al., Segment Anything, ICCV 2023, doi:10.1109/ICCV51070.2023.00371"
_MOBILE_SAM = (
    "Zhang et al., Faster Segment Anything: Towards Lightweight SAM for Mobile Applications, "
    "2023, arXiv:2306.14289"
)
_MICRO_SAM = (
    "Archit et al., Segment Anything for Microscopy, Nature Methods 2025, "
    "doi:10.1038/s41592-024-02580-4"
)
_ZOO = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
_SIZES = {"vit_t": 40_728_226, "vit_b": 375_042_383, "vit_l": 1_249_524_607}


def _official(architecture: str, stamp: str, size: int, sha256: str, word: str) -> ModelEntry:
    file_name = f"sam_{architecture}_{stamp}.pth"
    return ModelEntry(
        name=architecture,
        architecture=architecture,
        file_name=file_name,
        url=f"https://dl.fbaipublicfiles.com/segment_anything/{file_name}",
        size_bytes=size,
        size_is_exact=True,
        file_hash=FileHash("sha256", sha256),
        license="Apache-2.0",
        citation=_SAM,
        description=f"Segment Anything, {word} image encoder, trained on natural images",
    )


def _micro_sam(name: str, zoo_path: str, xxh128: str, domain: str) -> ModelEntry:
    architecture = name[:5]
    return ModelEntry(
        name=name,
        architecture=architecture,
        file_name=f"micro_sam_{name}.pt",
        url=f"{_ZOO}/{zoo_path}/files/{architecture}.pt",
        size_bytes=_SIZES[architecture],
        size_is_exact=False,
        file_hash=FileHash("xxh128", xxh128),
        license="CC-BY-4.0",
        citation=_MICRO_SAM,
        description=f"micro-sam generalist for {domain}",
    )


_CELLS = "cells and nuclei in light microscopy"
_ORGANELLES = "mitochondria and nuclei in electron microscopy"

_ENTRIES = (
    ModelEntry(
        name="compact",
        architecture="compact",
        file_name="compact.safetensors",
        url=None,
        size_bytes=None,
        size_is_exact=True,
        file_hash=None,
        license="MIT",
        citation="napari_sam, see the model card in the package",
        description="Small microscopy model, part of this package",
    ),
    _official(
        "vit_b",
        "01ec64",
        _SIZES["vit_b"],
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "base",
    ),
    _official(
        "vit_l",
        "0b3195",
        _SIZES["vit_l"],
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        "large",
    ),
    _official(
        "vit_h",
        "4b8939",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        "huge",
    ),
    ModelEntry(
        name="vit_t",
        architecture="vit_t",
        file_name="mobile_sam.pt",
        url=(
            "https://github.com/ChaoningZhang/MobileSAM/raw/"
            "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt"
        ),
        size_bytes=_SIZES["vit_t"],
        size_is_exact=True,
        file_hash=FileHash(
            "sha256", "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
        ),
        license="Apache-2.0",
        citation=_MOBILE_SAM,
        description="MobileSAM, tiny image encoder distilled from vit_h",
    ),
    _micro_sam("vit_t_lm", "faithful-chicken/1.1", "72ec5074774761a6e5c05a08942f981e", _CELLS),
    _micro_sam("vit_b_lm", "diplomatic-bug/1.2", "fe9252a29f3f4ea53c15a06de471e186", _CELLS),
    _micro_sam("vit_l_lm", "idealistic-rat/1.2", "017f20677997d628426dec80a8018f9d", _CELLS),
    _micro_sam(
        "vit_t_em_organelles", "greedy-whale/1", "253474720c497cce605e57c9b1d18fd9", _ORGANELLES
    ),
    _micro_sam(
        "vit_b_em_organelles", "noisy-ox/1.2", "f3bf2ed83d691456bae2c3f9a05fb438", _ORGANELLES
    ),
)

MODELS = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""All registered models by name."""


def find_model(name: str) -> ModelEntry:
    """Look up a model by name.

    Parameters
    ----------
    name : str
        Name in the registry.

    Returns
    -------
    ModelEntry
        Its entry.

    Raises
    ------
    ConfigError
        No model has that name.
    """
    entry = MODELS.get(name)
    if entry is None:
        close = difflib.get_close_matches(name, MODELS, n=3)
        raise ConfigError(
            f"No model is named {name!r}",
            rule=f"The models are {', '.join(MODELS)}",
            cure=(
                f"Did you mean {' or '.join(close)}?"
                if close
                else "Choose one of these, or give the path of a weights file"
            ),
        )
    return entry
