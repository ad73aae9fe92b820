"""A manifest with fewer training rows, the same ones each time; tuning and test rows all stay.

    python bench/thin.py MANIFEST OUT.csv [--every 8]

A teacher that is to be distilled (`assay distill`) judges every training picture first, which takes longest of all
where it is slow.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from assay.data import manifest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=8, help="keep every so-many-th training row")
    asked = parser.parse_args()
    rows = manifest.read(asked.manifest, check=False)
    kept = rows.column("split") != "train"
    kept[np.flatnonzero(~kept)[:: asked.every]] = True
    manifest.write(asked.out, rows[np.flatnonzero(kept)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
