"""`assay train --devices`, from a manifest to a detector that judges: two processes, one voice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import assay
from assay.data import manifest
from assay.types import Label, Sample

SETTINGS = {
    "code.view.size": "48",
    "code.backbone.fields": '{"widths": [8, 16], "blocks": [1]}',
    "code.heads": '[{"kind": "linear"}]',
    "descend.crops.base": "64",
    "descend.crops.local": "32",
    "descend.tiles.side": "96",
    "descend.alter.max_ops": "1",
    "descend.optimiser.learning_rate": "0.003",
    "descend.pairs": "5",
    "descend.steps": "4",
    "descend.epochs": "2",
    "fit.records": "16",
    "calibrate.fpr": "0.25",
}


def test_two_processes_make_one_detector(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(32):
        place, fake = tmp_path / f"{number:02d}.png", number % 2
        pixels = rng.integers(90, 130, (96, 96, 3), np.uint8)
        if fake:
            pixels[::2, ::2] += 60
        Image.fromarray(pixels).save(place)
        split = "train" if number < 20 else "tune"
        rows.append(Sample(place=str(place), label=Label(fake), source=f"source {number % 4}", split=split))
    manifest.write(tmp_path / "manifest.csv", rows)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "assay", "train", "code24:trace", "--data", str(tmp_path / "manifest.csv")]
    command += ["--out", str(out), "--devices", "2", "--device", "cpu", "--workers", "0", "--json"]
    for key, value in SETTINGS.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"bundle": str(out / "bundle"), "recipe": "code24:trace"}
    for once in (
        "training code 8/8",
        "wrote ",
        "next: assay evaluate",
        "looking for signs of failure 12/12",
        "embedding rows for code 16/16",
    ):
        assert done.stderr.count(once) == 1, once
    # Nothing of how it came about but what a user asked for.
    assert not [word for word in ("Warning", "rank0", "elastic", "Traceback") if word in done.stderr]
    assert len((out / "code.epochs.jsonl").read_text().splitlines()) == 2
    detector = assay.load(out / "bundle", threads=1)
    assert "2 devices" in detector.card.training["machine"]
    scores = {row.label: detector.judge(row.place).score for row in rows[-2:]}
    assert scores[Label.FAKE] > scores[Label.REAL]
