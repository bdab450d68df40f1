"""Compare the full-size vit_b image encoder with the reference: difference, times, their ratio.

    python benchmarks/parity_vit_b.py [--repeats 3] [--threads N] [--json FILE]

Both encoders get the same random weights and the same 1024 x 1024 image, in one process, one after
the other in turns; times are medians. Exits with status 1 if the embeddings differ by more
than 1e-4. Needs the `test` extra.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torchvision_stand_in
from napari_sam.model import ImageEncoderViT
from tiny_models import randomise

TOLERANCE = 1e-4


def build_encoders() -> tuple[nn.Module, nn.Module]:
    """Build our encoder and the reference with the same random weights."""
    torchvision_stand_in.install()
    from segment_anything.modeling import ImageEncoderViT as ReferenceViT

    torch.manual_seed(0)
    reference = ReferenceViT(
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(2, 5, 8, 11),
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    )
    randomise(reference)
    ours = ImageEncoderViT()
    ours.load_state_dict(reference.state_dict())
    return ours.eval(), reference.eval()


def timed(encode: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Run once and return the result with the seconds it took."""
    start = time.perf_counter()
    embedding = encode()
    return embedding, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ours, reference = build_encoders()
    image = torch.randn(1, 3, 1024, 1024)
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    with torch.inference_mode():
        for _ in range(arguments.repeats):
            embedding, seconds = timed(lambda: ours(image).embedding)
            times["ours"].append(seconds)
            expected, seconds = timed(lambda: reference(image))
            times["reference"].append(seconds)
    median = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "max_abs_difference": (embedding - expected).abs().max().item(),
        "embedding_std": expected.std().item(),
        "ours_s": median["ours"],
        "reference_s": median["reference"],
        "reference_over_ours": median["reference"] / median["ours"],
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "torch": torch.__version__,
    }
    for name, value in result.items():
        print(f"{name:>20}  {value:.3g}" if isinstance(value, float) else f"{name:>20}  {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return int(result["max_abs_difference"] > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
