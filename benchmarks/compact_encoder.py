"""Time the compact model's embedding of 512 x 512 against vit_b's of 1024 x 1024, in one run.

    python benchmarks/compact_encoder.py [--repeats 5] [--threads N] [--json FILE]

Both models have random weights and run in turns in one process; times are medians of whole calls
of `SamPredictor.encode` on uint8 images. The target is a ratio of at least 50. A click on the
compact embedding is timed too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from napari_sam.model import build_sam
from napari_sam.predict import SamPredictor


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    compact = SamPredictor(build_sam("compact").eval())
    vit_b = SamPredictor(build_sam("vit_b").eval())
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (512, 512), dtype=np.uint8)
    large = rng.integers(0, 256, (1024, 1024), dtype=np.uint8)
    embedding = compact.encode(small)  # also warms up
    times: dict[str, list[float]] = {"compact_512": [], "vit_b_1024": [], "compact_click": []}
    for _ in range(arguments.repeats):
        times["vit_b_1024"].append(seconds_of(lambda: vit_b.encode(large)))
        times["compact_512"].append(seconds_of(lambda: compact.encode(small)))
        times["compact_click"].append(
            seconds_of(lambda: compact.predict(embedding, points_xy=[[200, 300]], point_labels=[1]))
        )
    result = {name: statistics.median(values) for name, values in times.items()}
    result["vit_b_over_compact"] = result["vit_b_1024"] / result["compact_512"]
    result["threads"] = arguments.threads
    for name, value in result.items():
        print(f"{name:20s} {value:10.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
