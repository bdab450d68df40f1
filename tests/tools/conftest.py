"""Make the benchmarks importable: the comparison with the references has tests here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "benchmarks"))
