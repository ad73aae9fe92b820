from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.serve import decoding
from assay.serve.settings import Settings
from serving import Serve, png, served


@pytest.fixture(autouse=True)
def quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that decode begin in no time, as copies of one that has imported what they need. A real server's begin
    anew (`tests/cli/test_serve.py`)."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["assay.serve.decoder"])
        monkeypatch.setattr(decoding, "_CONTEXT", context)


@pytest.fixture
def picture(flat: Callable[..., Any]) -> Callable[..., bytes]:
    """`picture(grey, width, height)`: a PNG file of one grey level."""
    return lambda grey, *size: png(flat(grey, *size))


@pytest.fixture
def settings(bundle_folder: Path, tmp_path: Path) -> Settings:
    """Of a server with one process that decodes, and no rate."""
    return Settings(
        data=tmp_path / "data", detectors=(str(bundle_folder),), threads=1, device="cpu", decoders=1, rate=0, stop=10
    )


@pytest.fixture
def serve(settings: Settings) -> Serve:
    return functools.partial(served, settings)


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    """A video of 30 frames, ten a second, from dark to bright."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for grey in range(30):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * grey, np.uint8))))
        file.mux(stream.encode(None))
    return (tmp_path / "clip.mp4").read_bytes()
