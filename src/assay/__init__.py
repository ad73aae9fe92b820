"""assay tells real pictures from fake ones, and says how sure it is.

>>> import assay
>>> detector = assay.load()
>>> verdict = detector.judge("photo.jpg")
>>> verdict.verdict, verdict.score

Label 1 is fake and a score is P(fake), everywhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from assay import errors
from assay.types import Failure, Label, Verdict

# ONNX Runtime keeps records of its use, to be sent to its makers, unless it is told not to before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from assay.judge.detector import Detector
    from assay.types import EngineName

    __version__: str

__all__ = ["Detector", "Failure", "Label", "Verdict", "errors", "load"]


def load(
    name_or_folder: str | os.PathLike[str] | None = None,
    *,
    head: str | None = None,
    vote: str | None = None,
    skip: bool = False,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    engine: EngineName = "auto",
) -> Detector:
    """A detector, ready to judge.

    Args:
        name_or_folder: the name of an installed detector, or a bundle's folder; None for the default detector.
        head: the kind of head that judges, where the detector has several: "linear", "nearest", "one_class" or
            "mlp". None takes the default one. Each has its own threshold and doubt band.
        vote: how its streams vote, where it has several: "modified_majority", "majority", "mean", "plain_mean",
            "levels", "tenths", "best", or the name of a stream that judges alone. None takes the default rule.
        skip: leave out streams where they cannot change the verdict, but for a stated share of pictures.
        threads: cores for one run of a network; None for all physical ones.
        device: "auto" takes a CUDA GPU where ONNX Runtime has one, "cpu" and "cuda" insist.
        engine: what runs its networks. "auto" takes ONNX Runtime, or what `assay detectors --probe` found to be faster
            on this machine without moving a score. "openvino" (extra "openvino") computes in float32 too;
            "openvino-bf16" multiplies in bfloat16, which moves scores, so the detector's name and hash then say so.

    Raises:
        errors.BundleError: there is no such detector, it has no such head or rule, or its folder is torn, tampered with
            or of another version.
        errors.AssayError: kind "device": "cuda", or arithmetic for bfloat16, was asked for and is not there.
        errors.MissingExtra: OpenVINO was asked for and is not installed.
    """
    from assay.judge import bundle, detector

    read = bundle.read(bundle.find(name_or_folder))
    return detector.Detector(read, head=head, vote=vote, skip=skip, threads=threads, device=device, engine=engine)


def __getattr__(name: str) -> Any:
    # On first use: the detector brings ONNX Runtime, and reading the version searches the environment.
    if name == "Detector":
        from assay.judge.detector import Detector

        return Detector
    if name == "__version__":
        import importlib.metadata

        return importlib.metadata.version("assay")
    raise AttributeError(f"module 'assay' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "Detector", "__version__"])
