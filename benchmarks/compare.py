"""Measure napari_sam against the reference implementations: times, memory, equality.

    python benchmarks/compare.py [--only click boxes ...] [--quick] [--shares] [--device cpu]
                                 [--json FILE] [--markdown FILE] [--plot FILE]

Both sides get the same random weights and the same input, and run in turns in one process; times
are medians, and ratios are what to read. The outputs of the last turn are compared. `--help` lists
the works and all options, and the package `comparison` beside this file says how each is measured.
Exits with status 1 if any result differs from the reference, never because of a time, and with
status 2 if a reference is not installed.
"""

from __future__ import annotations

import sys

from comparison.command import main

if __name__ == "__main__":
    sys.exit(main())
