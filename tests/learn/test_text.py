"""Embeddings of texts: a model's own, a file's, or drawn; and nothing that could run code or pass for one."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from assay.errors import MissingExtra, RecipeError
from assay.learn.text import MEANINGLESS, NAME, embeddings

PROMPTS = ("real face", "synthetic face")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    transformers.logging.disable_progress_bar()
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    yield
    transformers.logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """CLIP's, with the letters for all its words."""
    folder = tmp_path_factory.mktemp("tokenizer")
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def settings(tokenizer: Any) -> dict[str, Any]:
    """Of a text model with sides of a few numbers."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
        "projection_dim": 12,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


@pytest.fixture(scope="module")
def model(settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**settings)).eval()


@pytest.fixture
def clip(model: Any, tokenizer: Any, tmp_path: Path) -> Path:
    """A folder that transformers saved them to, for the test to spoil."""
    model.save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def directions(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


def one(model: Any, tokenizer: Any, prompt: str) -> Tensor:
    """What a text model says of one text alone, so without padding."""
    with torch.no_grad():
        told: Tensor = model(**tokenizer([prompt], return_tensors="pt")).text_embeds
    return told


# ── a model ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_gives_the_models_own_embeddings_as_directions(clip: Path, model: Any, tokenizer: Any) -> None:
    found = embeddings(PROMPTS, str(clip))
    assert found.shape == (2, 12)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    expected = directions(torch.cat([one(model, tokenizer, prompt) for prompt in PROMPTS]))
    # The shorter text is padded beside the longer one, and must not feel it.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found[0] - found[1]).norm() > 0.1
    torch.testing.assert_close(embeddings(PROMPTS[::-1], str(clip)), expected.flip(0), rtol=0, atol=1e-6)


def test_of_a_whole_clip_it_is_the_text_half_that_embeds(
    settings: dict[str, Any], tokenizer: Any, tmp_path: Path
) -> None:
    vision = {key: settings[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")}
    vision |= {"num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(text_config=settings, vision_config=vision, projection_dim=12)
    torch.manual_seed(1)
    whole = transformers.CLIPModel(config).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    told = tokenizer(list(PROMPTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        pooled = whole.text_model(**told).pooler_output
        expected = directions(whole.text_projection(pooled))
    torch.testing.assert_close(embeddings(PROMPTS, str(tmp_path)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lost", ["text_projection.weight", "text_model.encoder.layers.1.mlp.fc1.weight"])
def test_a_folder_that_lacks_weights_is_not_filled_up_with_random_ones(clip: Path, lost: str) -> None:
    weights = load_file(clip / "model.safetensors")
    del weights[lost]
    save_file(weights, clip / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=rf"cannot embed texts as a CLIP text model: it lacks {lost}, 1 weights"):
        embeddings(PROMPTS, str(clip))


def test_another_model_is_refused(settings: dict[str, Any], tokenizer: Any, tmp_path: Path) -> None:
    common = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    bert = transformers.BertConfig(**{key: settings[key] for key in common})
    transformers.BertModel(bert).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="cannot embed texts as a CLIP text model: it lacks text_model"):
        embeddings(PROMPTS, str(tmp_path))


def test_weights_that_are_no_numbers_are_refused(clip: Path) -> None:
    weights = load_file(clip / "model.safetensors")
    weights["text_projection.weight"][0, 0] = torch.nan
    save_file(weights, clip / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match="gives numbers that are not finite; get its weights again"):
        embeddings(PROMPTS, str(clip))


class Trap:
    """Leaves a file behind where somebody unpickles it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (Path.touch, (self.place,))


def test_pickled_weights_are_not_opened(clip: Path, tmp_path: Path) -> None:
    (clip / "model.safetensors").unlink()
    (clip / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(RecipeError, match="cannot embed texts as a CLIP text model"):
        embeddings(PROMPTS, str(clip))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("torn", ["model.safetensors", "config.json"])
def test_a_folder_that_lacks_a_file_is_refused(clip: Path, torn: str) -> None:
    (clip / torn).unlink()
    with pytest.raises(RecipeError, match="cannot embed texts as a CLIP text model"):
        embeddings(PROMPTS, str(clip))


def test_a_folder_without_a_tokenizer_is_refused(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="cannot embed texts as a CLIP text model"):
        embeddings(PROMPTS, str(tmp_path))


def test_only_a_name_of_the_hub_is_asked_of_the_network(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def refused(place: str, **options: Any) -> Any:
        asked.append((place, options["local_files_only"]))
        raise OSError("no network")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refused)
    for place in (str(clip), "openai/clip-vit-large-patch14"):
        with pytest.raises(RecipeError, match=f"{place} cannot embed texts as a CLIP text model: no network"):
            embeddings(PROMPTS, place)
    assert asked == [(str(clip), True), ("openai/clip-vit-large-patch14", False)]


def test_without_the_library_the_extra_is_named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="embedding texts"):
        embeddings(PROMPTS, str(clip))


# ── a file ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_of_embeddings_is_read_as_directions(tmp_path: Path) -> None:
    rows = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.5]])
    for kind in (torch.float32, torch.float16):
        save_file({NAME: rows.to(kind)}, tmp_path / "texts.safetensors")
        found = embeddings(PROMPTS, str(tmp_path / "texts.safetensors"))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]))


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({NAME: torch.ones(3, 4)}, r"of 2 rows, one for each prompt; it has shape \(3, 4\)"),
        ({NAME: torch.ones(2)}, r"it has shape \(2,\)"),
        ({"texts": torch.ones(2, 4)}, "it has none"),
    ],
)
def test_a_file_of_other_tensors_is_refused(held: dict[str, Tensor], said: str, tmp_path: Path) -> None:
    save_file(held, tmp_path / "texts.safetensors")
    with pytest.raises(RecipeError, match=said):
        embeddings(PROMPTS, str(tmp_path / "texts.safetensors"))


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(RecipeError, match="is not a safetensors file"):
        embeddings(PROMPTS, str(tmp_path / "texts.bin"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("place", ["nowhere", "/no/such/folder", "./clip", "one/two/three"])
def test_a_place_where_nothing_is_is_refused_with_what_to_give(place: str) -> None:
    with pytest.raises(RecipeError, match=f"no text embeddings at {place}; give a folder that transformers saved"):
        embeddings(PROMPTS, place)


# ── none ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_model_a_prompt_has_a_direction_of_its_own_that_means_nothing() -> None:
    found = embeddings(PROMPTS, "")
    assert found.shape == (2, MEANINGLESS)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    # The same in every run, whatever stands beside it; near a right angle to any other.
    assert torch.equal(embeddings([PROMPTS[1]], "")[0], found[1])
    assert abs(float(found[0] @ found[1])) < 0.2
