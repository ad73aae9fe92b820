"""The maker: a small generator that learns, decodes every pixel, and comes back from disk as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
from PIL import Image

from assay.errors import BundleError, InputError, ManifestError, RecipeError
from assay.learn.maker import FACTOR, TURNS, Maker, MakerFields, load, make, save, train_maker
from assay.types import Label, Pixels, Sample

UPSAMPLERS = ("nearest", "transposed", "subpixel")


def tiny(**over: object) -> MakerFields:
    values = {"width": 8, "latent": 4, "blocks": 1, "crop": 32, "batch": 4, "rate": 5e-3, "precision": "fp32"}
    return MakerFields.model_validate(values | over)


def picture(seed: int, height: int = 48, width: int = 56) -> Pixels:
    """A coloured slope from corner to corner: smooth enough to learn within seconds."""
    draw = np.random.default_rng(seed)
    corners = Image.fromarray(draw.integers(0, 256, (2, 2, 3), dtype=np.uint8))
    return np.asarray(corners.resize((width, height), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(4):
        Image.fromarray(picture(seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def untrained(**over: object) -> Maker:
    """Random weights, with the residual branches awake."""
    torch.manual_seed(5)
    maker = Maker(tiny(**over))
    with torch.no_grad():
        for parameter in maker.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return maker.eval()


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_with_each_upsampler_the_loss_falls_and_pictures_come_back(upsampler: str, files: list[Path]) -> None:
    losses: list[float] = []
    fields = tiny(upsampler=upsampler, adversarial=0)
    maker = train_maker(files, fields, steps=100, on_step=lambda step, steps, loss: losses.append(loss))
    assert len(losses) == 100
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    learnt = [picture(seed) for seed in range(4)]
    right, wrong = (
        np.mean(
            [
                np.abs(maker.reconstruct(own).astype(float) - other).mean()
                for own, other in zip(learnt, others, strict=True)
            ]
        )
        for others in (learnt, learnt[1:] + learnt[:1])
    )
    assert right < 0.6 * wrong


def test_the_critic_changes_what_is_learnt(files: list[Path]) -> None:
    with_critic, without = (
        train_maker(files, tiny(adversarial=weight, critic_from=0.0), steps=20).reconstruct(picture(1))
        for weight in (0.5, 0.0)
    )
    assert not np.array_equal(with_critic, without)


def test_the_same_seed_gives_the_same_maker_and_pictures_and_another_seed_others(files: list[Path]) -> None:
    photographs = [picture(1), picture(2, 40, 64)]
    first, again, other = (
        make(train_maker(files, tiny(critic_from=0.5), seed=seed, steps=20), photographs, seed) for seed in (3, 3, 4)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_leaves_the_callers_random_numbers_alone(files: list[Path]) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_maker(files, tiny(), steps=1)
    assert torch.equal(torch.rand(3), expected)


def test_half_precision_trains_too(files: list[Path]) -> None:
    maker = train_maker(files, tiny(precision="bf16"), steps=3)
    assert all(parameter.isfinite().all() for parameter in maker.parameters())
    assert {parameter.dtype for parameter in maker.parameters()} == {torch.float32}


def test_training_by_minutes_ends_by_itself_and_can_be_repeated_by_its_steps(files: list[Path]) -> None:
    seen: list[tuple[int, int]] = []
    timed = train_maker(files, tiny(), minutes=0.01, on_step=lambda step, steps, loss: seen.append((step, steps)))
    steps = seen[-1][1]
    assert len(seen) == seen[-1][0] == steps > 0
    counted = train_maker(files, tiny(), steps=steps)
    assert np.array_equal(counted.reconstruct(picture(1)), timed.reconstruct(picture(1)))


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (7, 23), (33, 40), (100, 9)])
def test_reconstruct_keeps_any_size(upsampler: str, height: int, width: int) -> None:
    pixels = picture(1, height, width)
    result = untrained(upsampler=upsampler).reconstruct(pixels)
    assert result.shape == pixels.shape
    assert result.dtype == np.uint8


def test_padding_does_not_touch_the_pixels_away_from_the_edge() -> None:
    maker = untrained()
    whole = picture(1, 160, 160)
    odd = maker.reconstruct(whole[:157, :155])
    assert np.array_equal(odd[:64, :64], maker.reconstruct(whole)[:64, :64])


def test_the_bottleneck_is_real() -> None:
    maker = untrained()
    mean, deviation = maker.encode(torch.zeros(2, 3, 32, 64))
    assert mean.shape == deviation.shape == (2, 4, 32 // FACTOR, 64 // FACTOR)
    assert (deviation > 0).all()
    assert maker.decode(mean).shape == (2, 3, 32, 64)


def test_the_default_maker_has_between_one_and_two_million_parameters() -> None:
    for upsampler in UPSAMPLERS:
        count = sum(p.numel() for p in Maker(MakerFields.model_validate({"upsampler": upsampler})).parameters())
        assert 1e6 < count < 2e6


def test_make_gives_each_photograph_a_picture_of_its_size_that_is_no_mere_reconstruction() -> None:
    maker = untrained()
    photographs = [picture(1, 40, 64), picture(2, 61, 47), picture(3, 33, 33), picture(4, 48, 48)]
    made = make(maker, photographs, seed=1)
    assert [p.shape for p in made] == [p.shape for p in photographs]
    for photograph, new in zip(photographs, made, strict=True):
        assert not np.array_equal(new, photograph)
        assert not np.array_equal(new, maker.reconstruct(photograph))


def test_make_works_on_a_single_photograph() -> None:
    assert len(make(untrained(), [picture(1)])) == 1


@pytest.mark.parametrize("turn", ["blend", "inset"])
def test_blend_and_inset_use_both_photographs_each_in_its_place(turn: str) -> None:
    first, second = torch.zeros(1, 4, 24, 32), torch.ones(1, 4, 24, 32)
    mixed = TURNS[turn](first, second, np.random.default_rng(0))
    assert mixed.min() < 0.02
    assert mixed.max() > 0.98
    assert (mixed[:, :1] == mixed).all()


def test_drift_moves_one_photograph_and_ignores_the_other() -> None:
    first = torch.randn(1, 4, 24, 32)
    moved = TURNS["drift"](first, torch.ones_like(first), np.random.default_rng(0))
    assert torch.equal(moved, TURNS["drift"](first, torch.zeros_like(first), np.random.default_rng(0)))
    assert 0.1 < float((moved - first).std() / first.std()) < 1


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_a_saved_maker_comes_back_the_same(upsampler: str, tmp_path: Path) -> None:
    maker = untrained(upsampler=upsampler)
    save(maker, tmp_path / "m")
    back = load(tmp_path / "m")
    assert back.fields == maker.fields
    assert np.array_equal(back.reconstruct(picture(1)), maker.reconstruct(picture(1)))
    made = zip(make(back, [picture(1), picture(2)], 7), make(maker, [picture(1), picture(2)], 7), strict=True)
    assert all(np.array_equal(a, b) for a, b in made)


def test_training_writes_what_it_did_beside_the_weights(files: list[Path], tmp_path: Path) -> None:
    maker = train_maker(files, tiny(), seed=9, steps=2, out=tmp_path)
    record = json.loads((tmp_path / "maker.json").read_text(encoding="utf-8"))["record"]
    assert (record["seed"], record["steps"], record["pictures"]) == (9, 2, 4)
    assert np.array_equal(load(tmp_path).reconstruct(picture(1)), maker.reconstruct(picture(1)))


def test_a_maker_that_is_missing_torn_or_of_another_version_is_refused(tmp_path: Path) -> None:
    def kind() -> str:
        with pytest.raises(BundleError) as caught:
            load(tmp_path)
        return caught.value.kind

    assert kind() == "missing"
    save(untrained(), tmp_path)
    card = json.loads((tmp_path / "maker.json").read_text(encoding="utf-8"))
    weights = (tmp_path / "maker.safetensors").read_bytes()
    (tmp_path / "maker.safetensors").write_bytes(weights[:-100])
    assert kind() == "invalid"
    (tmp_path / "maker.safetensors").write_bytes(weights)
    (tmp_path / "maker.json").write_text(json.dumps(card | {"fields": card["fields"] | {"width": 16}}))
    assert kind() == "invalid"
    (tmp_path / "maker.json").write_text(json.dumps(card | {"format": 99}))
    assert kind() == "version"
    (tmp_path / "maker.json").write_text("{")
    assert kind() == "torn"


def test_only_real_pictures_of_the_training_split_are_learnt_from(files: list[Path]) -> None:
    good = Sample(place=str(files[0]), label=Label.REAL, split="train")
    train_maker([good], tiny(), steps=1)
    for label, split in ((Label.FAKE, "train"), (None, "train"), (Label.REAL, "test"), (Label.REAL, "")):
        with pytest.raises(ManifestError, match="real pictures of the training split") as caught:
            train_maker([good, Sample(place=str(files[1]), label=label, split=split)], tiny(), steps=1)
        assert len(caught.value.problems) == 1


def test_pictures_smaller_than_a_crop_are_mirrored_and_large_ones_cut(tmp_path: Path) -> None:
    for name, height, width in (("small", 5, 90), ("large", 700, 20)):
        Image.fromarray(picture(1, height, width)).save(tmp_path / f"{name}.png")
    train_maker(sorted(tmp_path.glob("*.png")), tiny(), steps=3)


def test_what_cannot_be_trained_on_is_named(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("text.jpg", "gone.jpg"):
        with pytest.raises(InputError, match=name):
            train_maker([tmp_path / name], tiny(), steps=1)
    with pytest.raises(ManifestError, match="no pictures"):
        train_maker([], tiny(), steps=1)


@pytest.mark.parametrize(("minutes", "steps"), [(None, None), (1.0, 1), (None, 0), (-1.0, None)])
def test_how_long_to_train_must_be_said_once(minutes: float | None, steps: int | None, files: list[Path]) -> None:
    with pytest.raises(RecipeError, match="either minutes or steps"):
        train_maker(files, tiny(), minutes=minutes, steps=steps)


@pytest.mark.parametrize("wrong", [{"upsampler": "bilinear"}, {"crop": 100}, {"latent": 0}, {"colour": 1}])
def test_fields_that_do_not_hold_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError):
        tiny(**wrong)
