"""CoDE's published weights (Baraldi et al., ECCV 2024, arXiv 2407.20337): Hugging Face `aimagelab/CoDE`.

*Release*: a transformers `ViTModel` (ViT-Tiny/16, 224 px, pooler unused); the embedding is the class token after the
last norm, not normalised; pictures are cropped to 224 px from the centre without resize and normalised as ImageNet's.
Three scikit-learn heads lie beside it (linear, nearest neighbour, one-class SVM) as joblib files.

*Ours*: those heads are pickles, so they are not opened; the same kinds are fitted on the user's training rows, and
calibrated on the user's tuning rows. A file in timm's naming does as well. Position embeddings are taken as they are:
the view has the size that they were made for.
"""

from __future__ import annotations

from assay.errors import RecipeError
from assay.learn.nn import vit
from assay.learn.released import Plan, System, under_code_heads
from assay.learn.weights import Weights


def plan(weights: Weights, rest: str) -> Plan:
    """CoDE's stream over these weights. Raises RecipeError where they are no Vision Transformer's."""
    if rest:
        raise RecipeError(f"code24 has one network, so nothing can follow the colon; say code24, not code24:{rest}")
    named = vit.naming(weights.tensors)
    if named is None:
        raise RecipeError(
            f"{weights.named} is no Vision Transformer in transformers' or timm's naming (its first parameter is "
            f"{next(iter(weights.tensors))}); for another network say timm:NAME"
        )
    tensors = vit.to_timm(weights.tensors) if named == "transformers" else dict(weights.tensors)
    backbone, size = vit.backbone(tensors, weights.config, named)
    return Plan(
        under_code_heads(
            "code24:released",
            "CoDE as published: the authors' embedding, heads fitted and calibrated here",
            "code",
            backbone,
            size,
        ),
        tensors,
        named,
        size,
        (
            "What its network was trained on (for the authors' release: D3) is not among what it remembers, so a test "
            "on such pictures is not refused.",
        ),
    )


SYSTEM = System(
    name="code24",
    summary="CoDE: the authors' embedding; heads fitted and calibrated on your rows",
    weights="aimagelab/CoDE, a folder with its config.json and model.safetensors, or the safetensors file",
    source="aimagelab/CoDE@f1c0566: src/inference/code_model.py, src/quantitative_evaluation/linear_training.py",
    plan=plan,
)
