"""Embeddings of a few texts, made once, in training: a bundle holds the numbers, and judging needs no tokenizer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from assay.errors import MissingExtra, RecipeError

NAME = "embeddings"
"""What the tensor in a file of embeddings is called."""

MEANINGLESS = 512
"""Length of embeddings that no model made: that of CLIP's smallest."""

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def embeddings(prompts: Sequence[str], weights: str) -> Tensor:
    """Directions of texts in CLIP's space (Radford et al., ICML 2021), (prompts, d), each of length 1.

    Args:
        prompts: the texts, one or more.
        weights: see `assay.learn.recipe.Text`.

    Raises:
        RecipeError: there are no such weights, or they are not a CLIP's; or a file holds another number of rows.
        MissingExtra: a model is to be run, and transformers is not installed.
    """
    if not weights:
        return _unit(torch.stack([_drawn(prompt) for prompt in prompts]))
    place = Path(weights)
    if place.is_file():
        return _unit(_stored(place, len(prompts)))
    if not place.is_dir() and _HUB.fullmatch(weights) is None:
        raise RecipeError(
            f"no text embeddings at {weights}; give a folder that transformers saved a CLIP text model to, a "
            "safetensors file of embeddings, or a repository such as openai/clip-vit-large-patch14"
        )
    return _unit(_of_model(prompts, weights, local=place.is_dir()))


def _drawn(prompt: str) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big")
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(MEANINGLESS).astype(np.float32))


def _stored(file: Path, count: int) -> Tensor:
    try:
        held = load_file(file).get(NAME)
    except SafetensorError as error:
        raise RecipeError(f"{file} is not a safetensors file: {error}") from None
    if held is None or held.ndim != 2 or len(held) != count:
        found = "none" if held is None else f"shape {tuple(held.shape)}"
        raise RecipeError(f"{file} must hold a tensor {NAME!r} of {count} rows, one for each prompt; it has {found}")
    return held.float()


def _of_model(prompts: Sequence[str], place: str, *, local: bool) -> Tensor:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("embedding texts", "train") from error
    options: dict[str, Any] = {"local_files_only": local}
    told_of: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
        read: Any = transformers.CLIPTextModelWithProjection.from_pretrained(place, **told_of, **options)
        model, about = read
        # transformers draws what a file lacks, all of it where the file is another model's.
        if about["missing_keys"]:
            raise ValueError(f"it lacks {min(about['missing_keys'])}, {len(about['missing_keys'])} weights in all")
        told = tokenizer(list(prompts), padding=True, return_tensors="pt")
        with torch.no_grad():
            found: Tensor = model(**told).text_embeds
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RecipeError(f"{place} cannot embed texts as a CLIP text model: {error}") from error
    if not bool(found.isfinite().all()):
        raise RecipeError(f"the text model in {place} gives numbers that are not finite; get its weights again")
    return found.float()


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)
