"""Judging leaves nothing behind: no records of use, no caches, nowhere in the user's folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

JUDGE = "import assay, sys; print(assay.load(sys.argv[1]).judge(sys.argv[2]).verdict)"
PORTRAIT = Path(__file__).parent.parent.parent / "samples" / "real" / "astronaut.jpg"


def test_judging_writes_nothing(bundle_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    done = subprocess.run(
        [sys.executable, "-B", "-c", JUDGE, str(bundle_folder), str(PORTRAIT)],
        env=kept | {"HOME": str(home), "TMPDIR": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() in ("fake", "real", "uncertain"), done.stderr
    assert sorted(home.rglob("*")) == []
