"""The maker: a small generator that learns, decodes every pixel, and comes back from disk as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from assay.errors import BundleError, InputError, ManifestError, RecipeError
from assay.learn.maker import TURNS, Maker, MakerFields, load, make, save, train_maker
from assay.types import Label, Pixels, Sample

UPSAMPLERS = ("nearest", "transposed", "subpixel")
DOUBLING = {"nearest": nn.Upsample, "transposed": nn.ConvTranspose2d, "subpixel": nn.PixelShuffle}


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


def diffusing(**over: object) -> MakerFields:
    return tiny(decoder="diffusion", factor=4, adversarial=0, **over)


def test_a_diffusion_decoder_learns_to_bring_pictures_back(files: list[Path]) -> None:
    losses: list[float] = []
    maker = train_maker(files, diffusing(), steps=150, on_step=lambda step, steps, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    learnt = [picture(seed) for seed in range(4)]
    made = [maker.reconstruct(pixels).astype(float) for pixels in learnt]
    right, wrong = (
        np.mean([np.abs(a - b).mean() for a, b in zip(made, others, strict=True)])
        for others in (learnt, learnt[1:] + learnt[:1])
    )
    assert right < 0.6 * wrong


def test_a_diffusion_decoder_begins_with_noise_that_hangs_on_the_content_alone() -> None:
    maker = untrained(decoder="diffusion")
    pixels = picture(1)
    first = maker.reconstruct(pixels)
    np.random.default_rng(0).random(5)
    torch.rand(3)
    assert np.array_equal(maker.reconstruct(pixels), first)
    latent = torch.zeros(1, 4, 4, 4)
    assert torch.equal(maker.decode(latent, 1), maker.decode(latent, 1))
    assert not torch.equal(maker.decode(latent, 1), maker.decode(latent, 2))
    direct = untrained()
    assert torch.equal(direct.decode(latent, 1), direct.decode(latent, 2))


@pytest.mark.parametrize("steps", [1, 4])
def test_denoising_goes_straight_to_where_the_network_says_the_picture_is(steps: int) -> None:
    maker = untrained(decoder="diffusion", denoising=steps)
    levels: list[float] = []
    seen: list[Tensor] = []
    target = torch.full((1, 3, 32, 32), 0.25)

    class Knows(type(maker.decoder)):  # type: ignore[misc]
        def forward(self, context: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
            levels.append(float(level))
            seen.append(noisy)
            return target

    maker.decoder.__class__ = Knows
    assert torch.allclose(maker.decode(torch.zeros(1, 4, 4, 4)), target, atol=1e-6)
    assert levels == [1 - step / steps for step in range(steps)]
    noise = seen[0]
    for level, noisy in zip(levels, seen, strict=True):
        assert torch.allclose(noisy, (1 - level) * target + level * noise, atol=1e-5)


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


@pytest.mark.parametrize("has", [True, False])
def test_half_precision_trains_too_and_is_float32_where_the_processor_has_none(
    has: bool, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.learn.maker._has_bfloat16", lambda device: has)
    maker = train_maker(files, tiny(precision="bf16"), steps=3)
    assert all(parameter.isfinite().all() for parameter in maker.parameters())
    assert {parameter.dtype for parameter in maker.parameters()} == {torch.float32}
    full = train_maker(files, tiny(), steps=3)
    assert np.array_equal(maker.reconstruct(picture(1)), full.reconstruct(picture(1))) != has


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


@pytest.mark.parametrize("decoder", ["direct", "diffusion"])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_every_factor_and_decoder_keeps_any_size_and_has_a_bottleneck(
    upsampler: str, factor: int, decoder: str
) -> None:
    maker = untrained(upsampler=upsampler, factor=factor, decoder=decoder, blocks=2)
    mean, deviation = maker.encode(torch.zeros(2, 3, 32, 64))
    assert mean.shape == deviation.shape == (2, 4, 32 // factor, 64 // factor)
    assert maker.decode(mean).shape == (2, 3, 32, 64)
    for height, width in ((1, 1), (7, 23), (33, 40)):
        assert maker.reconstruct(picture(1, height, width)).shape == (height, width, 3)
    doublings = [each for each in maker.modules() if isinstance(each, DOUBLING[upsampler])]
    assert len(doublings) == {2: 1, 4: 2, 8: 3}[factor]


def test_a_shallow_maker_loses_less(files: list[Path]) -> None:
    def lost(factor: int) -> float:
        maker = train_maker(files, tiny(factor=factor, adversarial=0), steps=40)
        return float(
            np.mean([np.abs(maker.reconstruct(picture(n)).astype(float) - picture(n)).mean() for n in range(4)])
        )

    assert lost(2) < 0.8 * lost(8)


def test_padding_does_not_touch_the_pixels_away_from_the_edge() -> None:
    maker = untrained()
    whole = picture(1, 160, 160)
    odd = maker.reconstruct(whole[:157, :155])
    assert np.array_equal(odd[:64, :64], maker.reconstruct(whole)[:64, :64])


def test_the_bottleneck_is_real() -> None:
    maker = untrained()
    mean, deviation = maker.encode(torch.zeros(2, 3, 32, 64))
    assert mean.shape == deviation.shape == (2, 4, 4, 8)
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


@pytest.mark.parametrize("decoder", ["direct", "diffusion"])
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_a_saved_maker_comes_back_the_same(upsampler: str, decoder: str, tmp_path: Path) -> None:
    maker = untrained(upsampler=upsampler, decoder=decoder)
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


def test_a_maker_saved_before_there_were_factors_loads_and_its_weights_have_the_names_they_had(tmp_path: Path) -> None:
    maker = untrained()
    save(maker, tmp_path)
    card = json.loads((tmp_path / "maker.json").read_text(encoding="utf-8"))
    for name in ("factor", "decoder", "denoising"):
        del card["fields"][name]
    (tmp_path / "maker.json").write_text(json.dumps(card), encoding="utf-8")
    assert np.array_equal(load(tmp_path).reconstruct(picture(1)), maker.reconstruct(picture(1)))
    names = [name for name in Maker(tiny(blocks=2)).state_dict() if name.endswith("weight")]
    inner = ("first", "second")
    assert names == [
        *("encoder.0.weight", "encoder.2.weight", *(f"encoder.3.{each}.weight" for each in inner), "encoder.5.weight"),
        *(f"encoder.{place}.{each}.weight" for place in (6, 7) for each in inner),
        *("encoder.9.weight", "decoder.0.weight"),
        *(f"decoder.{place}.{each}.weight" for place in (1, 2) for each in inner),
        *("decoder.4.weight", *(f"decoder.5.{each}.weight" for each in inner)),
        *("decoder.7.weight", *(f"decoder.8.{each}.weight" for each in inner)),
        *("decoder.10.weight", "decoder.12.weight"),
    ]


def test_what_is_held_out_is_measured_and_must_be_fit_to_learn_from(files: list[Path], tmp_path: Path) -> None:
    maker = train_maker(files[1:], tiny(), steps=3, held_out=files[:1], out=tmp_path)
    record = json.loads((tmp_path / "maker.json").read_text(encoding="utf-8"))["record"]
    error = np.mean((maker.reconstruct(picture(0)).astype(float) - picture(0)) ** 2)
    assert record["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=0.01)
    assert record["pictures"] == 3
    with pytest.raises(ManifestError, match="real pictures of the training split"):
        train_maker(files, tiny(), steps=1, held_out=[Sample(place=str(files[0]), label=Label.REAL, split="test")])


def test_a_makers_name_says_what_leaves_its_trace() -> None:
    assert MakerFields().name == "nearest-x8"
    assert diffusing(upsampler="subpixel").name == "subpixel-x4-diffusion"


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"upsampler": "bilinear"},
        {"factor": 3},
        {"decoder": "flow"},
        {"denoising": 0},
        {"crop": 100},
        {"latent": 0},
        {"colour": 1},
    ],
)
def test_fields_that_do_not_hold_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError):
        tiny(**wrong)
