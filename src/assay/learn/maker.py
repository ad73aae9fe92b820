"""A small generator, trained here from nothing, that makes pictures no camera took.

Every pixel of what it makes comes out of a decoder that has learned to upsample, which is what detectors of generated
pictures look for. It serves twice: its pictures are samples to try a detector on, and passed through it a real picture
becomes a fake of the same content (`reconstruct`), so that a detector cannot learn the subject instead.

The network is a convolutional variational autoencoder with a patch critic: the first stage of latent diffusion
(Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022, section 3.1), made small and
without a pretrained perceptual loss, for which multi-scale differences stand in. The critic is a PatchGAN (Isola et
al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, section 3.2.2) under a hinge loss.
Reals reconstructed as aligned fakes: Rajan et al., Aligned Datasets Improve Detection of Latent Diffusion-Generated
Images, ICLR 2025.

Its decoder may be a diffusion model instead: a small network that takes noise off, conditioned on the latent, under
rectified flow's straight paths (Liu et al., Flow Straight and Fast, ICLR 2023, section 2.1). It says where the path
ends, the picture itself, so that one distance trains both kinds of decoder.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
import safetensors
import safetensors.torch
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import BundleError, InputError, ManifestError, RecipeError
from assay.image.cut import cut
from assay.image.decode import decode
from assay.types import Box, Label, Pixels, Sample

_FORMAT = 1
_HELD_PICTURES = 2_000
_HELD_SIDE = 512
_MEASURED_SIDE = 256
# The rate rises over these, and where minutes are given they are timed: until they are over nothing depends on how
# many steps there will be, so a run by minutes and one by the number of steps it came to are the same.
_WARM_STEPS = 14
# Pictures are made with a running average of the weights, which is smoother than the last ones.
_AVERAGE = 0.995


class MakerFields(pydantic.BaseModel):
    """What a maker is, and how it is trained.

    Args:
        upsampler: how the decoder doubles its size: "nearest" repeats samples and convolves, "transposed" is a
            transposed convolution, "subpixel" convolves to four times the channels and interleaves them. Each leaves
            another trace.
        factor: one latent cell stands for a square of this many pixels a side; the decoder doubles its size as often as
            the encoder halved it. Shallow makers come close to their originals within minutes of one processor core.
        decoder: "direct" decodes at once. "diffusion" begins with noise and takes it off, looking at the latent.
        denoising: steps in which a diffusion decoder takes off the noise.
        width: channels at half the picture's size; doubled at each halving after that.
        latent: channels of the latent: so many numbers for 3 × `factor`² samples.
        blocks: residual blocks at the latent's size, in the encoder and in the decoder each.
        kl: weight of the divergence from the unit normal, averaged over the latent's numbers.
        adversarial: weight of the patch critic; 0 trains without one.
        critic_from: share of the training after which the critic is heard.
        crop: side of a training crop in pixels, a multiple of 8.
        batch: crops a step.
        rate: Adam's peak learning rate.
        precision: "bf16" trains under bfloat16 autocast (about three times as fast on processors that have it, and
            float32 on those that do not); making pictures always runs in float32.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    upsampler: Literal["nearest", "transposed", "subpixel"] = "nearest"
    factor: Literal[2, 4, 8] = 8
    decoder: Literal["direct", "diffusion"] = "direct"
    denoising: int = pydantic.Field(4, ge=1, le=100)
    width: int = pydantic.Field(32, ge=2, le=256)
    latent: int = pydantic.Field(16, ge=1, le=64)
    blocks: int = pydantic.Field(2, ge=0, le=8)
    kl: float = pydantic.Field(1e-3, ge=0)
    adversarial: float = pydantic.Field(0.03, ge=0)
    critic_from: float = pydantic.Field(0.4, ge=0, le=1)
    crop: int = pydantic.Field(128, ge=16, le=1024, multiple_of=8)
    batch: int = pydantic.Field(8, ge=1, le=1024)
    rate: float = pydantic.Field(1e-3, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"

    @property
    def name(self) -> str:
        """What leaves the trace: "nearest-x8", "subpixel-x4-diffusion"."""
        return f"{self.upsampler}-x{self.factor}" + ("-diffusion" if self.decoder == "diffusion" else "")


class Maker(nn.Module):
    """Encoder, bottleneck and decoder, fully convolutional; about 1.7 million parameters by default.

    Tensors are (n, 3, height, width) float in [-1, 1], both sides multiples of `factor`; latents are
    (n, latent, height / factor, width / factor).
    """

    def __init__(self, fields: MakerFields | None = None) -> None:
        super().__init__()
        self.fields = fields or MakerFields()
        # Channels at each halving, from half the picture's size on.
        widths = [self.fields.width << halving for halving in range(self.fields.factor.bit_length() - 1)]
        w, z, blocks = widths[0], self.fields.latent, self.fields.blocks
        moments = nn.Conv2d(widths[-1], 2 * z, 3, padding=1)
        down: list[nn.Module] = []
        for halving, (before, after) in enumerate(itertools.pairwise((3, *widths)), start=1):
            count = blocks if halving == len(widths) else min(1, halving - 1)
            down += nn.Conv2d(before, after, 4, stride=2, padding=1), *_residuals(after, count), nn.SiLU()
        self.encoder = nn.Sequential(*down, moments)
        up: list[nn.Module] = [nn.Conv2d(z, widths[-1], 3, padding=1), *_residuals(widths[-1], blocks)]
        for before, after in itertools.pairwise(widths[::-1]):
            up += *_upsample(self.fields.upsampler, before, after), _Residual(after)
        self.decoder: nn.Sequential | _Denoiser
        if self.fields.decoder == "diffusion":
            self.decoder = _Denoiser(nn.Sequential(*up), self.fields.upsampler, w)
        else:
            last = nn.Conv2d(w // 2, 3, 3, padding=1)
            self.decoder = nn.Sequential(*up, *_upsample(self.fields.upsampler, w, w // 2), nn.SiLU(), last)
        self.apply(_start)
        with torch.no_grad():
            # Deviations start at e^-2: at 1, noise would drown the latent and the decoder learn to do without it.
            moments.weight[z:] *= 0.1
            moments.bias[z:] = -4  # type: ignore[index]

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent."""
        mean, log_variance = self.encoder(pictures).chunk(2, dim=1)
        # Below e^-6 a deviation adds nothing that eight-bit samples could hold; above e^2 training has gone astray.
        return mean, torch.exp(0.5 * log_variance.float().clamp(-12, 4))

    def decode(self, latent: Tensor, seed: int = 0) -> Tensor:
        """Pictures of a latent, not clipped to [-1, 1].

        Args:
            seed: of the noise that a diffusion decoder begins with; a direct one has none.
        """
        if not isinstance(self.decoder, _Denoiser):
            decoded: Tensor = self.decoder(latent)
            return decoded
        count, factor = len(latent), self.fields.factor
        shape = (count, latent.shape[2] * factor, latent.shape[3] * factor, 3)
        noisy = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32)).to(latent)
        noisy = noisy.permute(0, 3, 1, 2)
        context = self.decoder.context(latent)
        for left in range(self.fields.denoising, 0, -1):
            # Straight on towards the picture, as far as one step of those that are left; the last one arrives.
            end = self.decoder(context, noisy, noisy.new_full((count, 1, 1, 1), left / self.fields.denoising))
            noisy = noisy + (end - noisy) / left
        return noisy

    @torch.inference_mode()
    def reconstruct(self, pixels: Pixels) -> Pixels:
        """A fake with a picture's content: encoded, and decoded from the latent's mean.

        Args:
            pixels: (height, width, 3) uint8, any size from 1 x 1 up; mirrored at the right and lower edge up to a
                multiple of `factor` and cut back afterwards.

        Returns:
            Pixels of the same shape. The same pixels always give the same picture.
        """
        height, width = pixels.shape[:2]
        return _pixels(self.decode(self._encode_pixels(pixels)[0], _seed(pixels)), height, width)

    def _encode_pixels(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        (height, width), factor = pixels.shape[:2], self.fields.factor
        whole = cut(pixels, Box(0, 0, -(-width // factor) * factor, -(-height // factor) * factor))
        return self.encode(_tensor(whole[None], next(self.parameters()).device))


def train_maker(
    pictures: Sequence[Sample | str | os.PathLike[str]],
    fields: MakerFields | None = None,
    *,
    seed: int = 0,
    minutes: float | None = None,
    steps: int | None = None,
    held_out: Sequence[Sample | str | os.PathLike[str]] = (),
    out: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    on_step: Callable[[int, int, float], None] | None = None,
) -> Maker:
    """Train a maker from nothing on real pictures.

    The same pictures, fields, seed and number of steps give the same maker on the same machine with the same number
    of threads.

    Args:
        pictures: files, or samples of a manifest, which must be real and of the training split. At most 2,000 of them
            are held, drawn by the seed, each as a crop of at most 512 px a side at native resolution.
        fields: what to train; the defaults where None.
        seed: of the weights, crops and noise.
        minutes: how long to train. The first steps are timed and the number of steps follows from that, so a machine
            that turns busy takes longer. The number is written to `maker.json`.
        steps: how many steps to train, instead of `minutes`.
        held_out: other such pictures, on which the trained maker is measured: "psnr" in `maker.json` is the mean of
            their reconstructions, in dB, each of a square of at most 256 px around the middle.
        out: folder to save the maker in.
        device: where to train, as torch names it.
        on_step: called with the step (from 1), the number of steps (0 while not known) and the reconstruction loss.

    Raises:
        RecipeError: not exactly one of `minutes` and `steps` is given, or it is not positive.
        ManifestError: no picture is left, or samples are not real pictures of the training split.
        InputError: a file cannot be read.
    """
    fields = fields or MakerFields()
    amount = minutes if steps is None else steps
    if (minutes is None) == (steps is None) or amount is None or amount <= 0:
        raise RecipeError("say how long to train: give either minutes or steps, above 0")
    draw = np.random.default_rng(seed)
    held = _hold(_places(pictures), fields.crop, draw)
    unseen = [_middle(_read(place)) for place in _places(held_out)] if held_out else []
    # Weights and noise come from torch's global generator: fork it, so that the caller's goes on as it was.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        maker, done, loss = _descend(held, fields, draw, minutes, steps or 0, torch.device(device), on_step)
    if out is not None:
        record: dict[str, str | float] = {"seed": seed, "steps": done, "pictures": len(held), "loss": round(loss, 5)}
        if unseen:
            record["psnr"] = round(float(np.mean([_psnr(maker.reconstruct(pixels), pixels) for pixels in unseen])), 2)
        save(maker, out, **record)
    return maker


def make(maker: Maker, photographs: Sequence[Pixels], seed: int = 0) -> list[Pixels]:
    """New pictures out of photographs' latents, one for each photograph and of its size.

    In turn (`TURNS`): two photographs' latents blended under a smooth random mask; a region of one set into another;
    one shifted smoothly. Each latent is drawn from its posterior. The second photograph of a pair is scaled and cropped
    to the first one's shape. All pixels are decoded; none is copied.

    Args:
        photographs: (height, width, 3) uint8 each, at least one, any sizes.
        seed: of masks, partners and noise. The same maker, photographs and seed give the same pictures.
    """
    draw = np.random.default_rng(seed)
    # One step round the circle for all, so that each photograph is second once, and first beside itself only if alone.
    away = int(draw.integers(1, max(2, len(photographs))))
    made = []
    with torch.inference_mode():
        for index, (photograph, turn) in enumerate(zip(photographs, itertools.cycle(TURNS.values()), strict=False)):
            height, width = photograph.shape[:2]
            other = Image.fromarray(photographs[(index + away) % len(photographs)])
            fitted = np.asarray(ImageOps.fit(other, (width, height), Image.Resampling.BICUBIC))
            first, second = (
                mean + deviation * torch.from_numpy(draw.standard_normal(mean.shape, np.float32)).to(mean)
                for mean, deviation in map(maker._encode_pixels, (photograph, fitted))
            )
            made.append(_pixels(maker.decode(turn(first, second, draw), _seed(photograph)), height, width))
    return made


def save(maker: Maker, folder: str | os.PathLike[str], **record: str | float) -> None:
    """Write `maker.safetensors` and `maker.json` (the fields, and whatever `record` says of the training)."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in maker.state_dict().items()}
    (place / "maker.safetensors").write_bytes(safetensors.torch.save(state))
    card = {"format": _FORMAT, "fields": maker.fields.model_dump(), "record": record}
    (place / "maker.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load(folder: str | os.PathLike[str]) -> Maker:
    """Read a maker that `save` wrote.

    Raises:
        BundleError: a file is missing, torn, of another version, or does not fit the other.
    """
    place = Path(folder)
    try:
        card: Any = json.loads((place / "maker.json").read_text(encoding="utf-8"))
        weights = (place / "maker.safetensors").read_bytes()
    except OSError as error:
        raise BundleError(
            f"{error.filename}: cannot be read ({error.strerror}); a maker is a folder with maker.json and "
            "maker.safetensors, as `train_maker(out=…)` writes it",
            kind="missing",
        ) from error
    except ValueError as error:
        raise BundleError(f"{place / 'maker.json'}: not JSON ({error}); train the maker again", kind="torn") from error
    if not isinstance(card, dict) or card.get("format") != _FORMAT:
        raise BundleError(f"{place / 'maker.json'}: not of format {_FORMAT}; train the maker again", kind="version")
    try:
        maker = Maker(MakerFields.model_validate(card.get("fields")))
        maker.load_state_dict(safetensors.torch.load(weights))
    except (pydantic.ValidationError, RuntimeError, safetensors.SafetensorError) as error:
        raise BundleError(
            f"{place}: fields and weights do not fit ({error}); train it again", kind="invalid"
        ) from error
    return maker.eval()


class _Residual(nn.Module):
    """Two convolutions beside the identity. No normalisation: one over the picture would tie a pixel to all others,
    and a crop would not come out as the whole does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.second(F.silu(self.first(F.silu(x))))
        return x + branch


def _residuals(channels: int, count: int) -> list[_Residual]:
    return [_Residual(channels) for _ in range(count)]


class _Denoiser(nn.Module):
    """Says which picture lies under noise: it looks at the noise at full size and at half, and at the latent.

    Args:
        context: from the latent to `width` channels at half the picture's size; the same at every step.
        upsampler: for the one doubling that every step does.
    """

    def __init__(self, context: nn.Sequential, upsampler: str, width: int) -> None:
        super().__init__()
        self.context = context
        self.down = nn.Conv2d(4, width, 4, stride=2, padding=1)
        self.joined = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), _Residual(width))
        self.up = nn.Sequential(*_upsample(upsampler, width, width // 2), nn.SiLU())
        self.last = nn.Conv2d(width // 2 + 4, 3, 3, padding=1)

    def forward(self, context: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        """Pictures (n, 3, height, width), not clipped.

        Args:
            context: (n, width, height / 2, width / 2).
            noisy: (1 - level) × picture + level × normal noise.
            level: (n, 1, 1, 1), in (0, 1].
        """
        seen = torch.cat([noisy, level.expand(-1, 1, *noisy.shape[-2:])], dim=1)
        half: Tensor = self.joined(torch.cat([context, self.down(seen)], dim=1))
        picture: Tensor = self.last(torch.cat([self.up(half), seen], dim=1))
        return picture


def _start(module: nn.Module) -> None:
    """First weights that keep a signal's strength from layer to layer: torch's own shrink it at each one, and the first
    hundred steps would go into undoing that."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        fan = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        if isinstance(module, nn.ConvTranspose2d):
            # Of its kernel only one place in stride x stride meets an output.
            fan //= module.stride[0] * module.stride[1]
        nn.init.normal_(module.weight, std=fan**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, _Residual):
        nn.init.zeros_(module.second.weight)


def _upsample(kind: str, channels: int, out: int) -> list[nn.Module]:
    if kind == "nearest":
        return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, out, 3, padding=1)]
    if kind == "transposed":
        return [nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)]
    return [nn.Conv2d(channels, 4 * out, 3, padding=1), nn.PixelShuffle(2)]


class _Critic(nn.Sequential):
    """Says of each patch of about 38 px whether it looks real (above 0) or made."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )


def _descend(
    held: Sequence[Pixels],
    fields: MakerFields,
    draw: np.random.Generator,
    minutes: float | None,
    steps: int,
    device: torch.device,
    on_step: Callable[[int, int, float], None] | None,
) -> tuple[Maker, int, float]:
    maker = Maker(fields).to(device).to(memory_format=torch.channels_last)
    critic = _Critic(fields.width).to(device).to(memory_format=torch.channels_last)
    smooth = [parameter.detach().clone() for parameter in maker.parameters()]
    optimiser = torch.optim.Adam(maker.parameters(), lr=fields.rate, betas=(0.9, 0.99))
    critic_optimiser = torch.optim.Adam(critic.parameters(), lr=0.5 * fields.rate, betas=(0.5, 0.9))
    halves = fields.precision == "bf16" and _has_bfloat16(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=halves)
    began, step, loss = time.monotonic(), 0, float("nan")
    while not steps or step < steps:
        progress = max(0, step - _WARM_STEPS) / (steps - _WARM_STEPS) if steps > _WARM_STEPS else 0.0
        for group in optimiser.param_groups:
            group["lr"] = (
                fields.rate * min(1.0, (step + 1) / _WARM_STEPS) * (0.02 + 0.49 * (1 + np.cos(np.pi * progress)))
            )
        heard = step >= _WARM_STEPS and fields.adversarial > 0 and progress >= fields.critic_from
        real = _tensor(_crops(held, fields, draw), device)
        with autocast:
            mean, deviation = maker.encode(real)
            fake = _decoded(maker, mean + deviation * torch.randn_like(deviation), real)
            opinion = critic(fake) if heard else None
        distance = _distance(fake.float(), real)
        mean = mean.float()
        divergence = 0.5 * (mean**2 + deviation**2 - 1 - 2 * deviation.log()).mean()
        total = distance + fields.kl * divergence
        if opinion is not None:
            total = total - fields.adversarial * opinion.float().mean()
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(maker.parameters(), 1.0)
        optimiser.step()
        if heard:
            with autocast:
                on_real, on_fake = critic(torch.cat([real, fake.detach().to(real)])).float().chunk(2)
            critic_loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
            critic_optimiser.zero_grad(set_to_none=True)
            critic_loss.backward()  # type: ignore[no-untyped-call]
            critic_optimiser.step()
        step += 1
        decay = min(_AVERAGE, step / (step + 9))
        for average, parameter in zip(smooth, maker.parameters(), strict=True):
            average.lerp_(parameter.detach(), 1 - decay)
        loss = float(distance.detach())
        if on_step is not None:
            on_step(step, steps, loss)
        if not steps and minutes is not None:
            if step == 2:
                timed = time.monotonic()
            elif step == _WARM_STEPS:
                each = (time.monotonic() - timed) / (step - 2)
                # A step with the critic takes about a quarter longer.
                each *= 1 + 0.25 * (1 - fields.critic_from) * (fields.adversarial > 0)
                steps = max(step + 1, step + int((60 * minutes - (time.monotonic() - began)) / each))
    with torch.no_grad():
        for average, parameter in zip(smooth, maker.parameters(), strict=True):
            parameter.copy_(average)
    return maker.to("cpu").to(memory_format=torch.contiguous_format).eval(), step, loss


def _has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster there. Without the processor's own, torch imitates it, many times slower."""
    if device.type != "cpu":
        return True
    told = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return told is not None and bool(told())


def _decoded(maker: Maker, latent: Tensor, real: Tensor) -> Tensor:
    """What the decoder learns by: the picture, or from a random point of a path from noise the picture at its end."""
    if not isinstance(maker.decoder, _Denoiser):
        return maker.decode(latent)
    # More noise more often: under little, the picture shows through, and nothing asks what the latent says.
    level = torch.rand(len(real), 1, 1, 1, device=real.device).sqrt()
    picture: Tensor = maker.decoder(
        maker.decoder.context(latent), torch.lerp(real, torch.randn_like(real), level), level
    )
    return picture


def _distance(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of samples at three scales and of neighbours' differences, which punish blur."""
    total = torch.zeros((), device=real.device)
    for scale in range(3):
        if scale:
            fake, real = F.avg_pool2d(fake, 2), F.avg_pool2d(real, 2)
        error = fake - real
        total = total + 0.5**scale * error.abs().mean()
        total = total + 0.5**scale * 0.5 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
    return total


def _places(pictures: Sequence[Sample | str | os.PathLike[str]]) -> list[str]:
    unfit = [
        f"{picture.place}: label {'unknown' if picture.label is None else picture.label.name.lower()}, "
        f"split {picture.split or 'none'}"
        for picture in pictures
        if isinstance(picture, Sample) and (picture.label is not Label.REAL or picture.split != "train")
    ]
    if unfit:
        raise ManifestError(
            f"a maker learns from real pictures of the training split alone, and {len(unfit)} are not, first "
            f'{unfit[0]}; select them by split="train", label=Label.REAL',
            unfit,
        )
    if not pictures:
        raise ManifestError("no pictures to train a maker on; the manifest needs real rows with split train")
    return [picture.place if isinstance(picture, Sample) else os.fspath(picture) for picture in pictures]


def _hold(places: Sequence[str], least: int, draw: np.random.Generator) -> list[Pixels]:
    """The pictures to train on, decoded once: reading them again for every crop would cost more than the training."""
    if len(places) > _HELD_PICTURES:
        places = [places[index] for index in draw.choice(len(places), _HELD_PICTURES, replace=False)]
    held = []
    for place in places:
        pixels = _read(place)
        height, width = pixels.shape[:2]
        across, down = (max(least, min(_HELD_SIDE, side)) for side in (width, height))
        left, top = (int(draw.integers(0, max(1, slack + 1))) for slack in (width - across, height - down))
        held.append(cut(pixels, Box(left, top, left + across, top + down)))
    return held


def _read(place: str) -> Pixels:
    try:
        return decode(place).pixels
    except InputError as error:
        raise InputError(f"{place}: {error}", kind=error.kind) from error


def _middle(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = (max(0, side - _MEASURED_SIDE) // 2 for side in (height, width))
    return pixels[top : top + _MEASURED_SIDE, left : left + _MEASURED_SIDE]


def _psnr(pixels: Pixels, other: Pixels) -> float:
    """Peak signal to noise ratio in dB; at most that of one sample in a million being wrong by one."""
    error = max(1e-6, float(np.mean((pixels.astype(np.float64) - other) ** 2)))
    return 10 * math.log10(255**2 / error)


def _crops(held: Sequence[Pixels], fields: MakerFields, draw: np.random.Generator) -> Pixels:
    crops = []
    for index in draw.integers(0, len(held), fields.batch):
        height, width = held[index].shape[:2]
        left, top = (int(draw.integers(0, side - fields.crop + 1)) for side in (width, height))
        crop = held[index][top : top + fields.crop, left : left + fields.crop]
        crops.append(crop[:, ::-1] if draw.random() < 0.5 else crop)
    return np.stack(crops)


def _tensor(pictures: Pixels, device: torch.device) -> Tensor:
    """(n, height, width, 3) uint8 to (n, 3, height, width) in [-1, 1]; NHWC in memory, which convolves faster."""
    batch = torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2)
    return batch.float() / 127.5 - 1


def _seed(pixels: Pixels) -> int:
    """Of a diffusion decoder's noise: the same content, the same noise."""
    return int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "big")


def _pixels(decoded: Tensor, height: int, width: int) -> Pixels:
    samples = ((decoded[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(samples.permute(1, 2, 0).cpu().numpy()[:height, :width])


def _blend(first: Tensor, second: Tensor, draw: np.random.Generator) -> Tensor:
    """Two latents under a smooth mask with short transitions: half-and-half everywhere would look like a double
    exposure."""
    mask = torch.sigmoid(10 * _field(first, 1, draw))
    return mask * first + (1 - mask) * second


def _inset(first: Tensor, second: Tensor, draw: np.random.Generator) -> Tensor:
    """An ellipse of the second latent within the first."""
    height, width = first.shape[-2:]
    middle = draw.uniform(0.35, 0.65, 2)
    radius = draw.uniform(0.25, 0.35, 2)
    y = (torch.linspace(0, 1, height)[:, None] - middle[0]) / radius[0]
    x = (torch.linspace(0, 1, width)[None, :] - middle[1]) / radius[1]
    mask = torch.sigmoid(8 * (1 - torch.sqrt(x**2 + y**2))).to(first)
    return mask * second + (1 - mask) * first


def _drift(first: Tensor, second: Tensor, draw: np.random.Generator) -> Tensor:
    """One latent, each channel moved by a smooth field of its own, so that colours and textures change."""
    spread = first.std(dim=(2, 3), keepdim=True)
    return first + 0.35 * spread * _field(first, first.shape[1], draw)


def _field(like: Tensor, channels: int, draw: np.random.Generator) -> Tensor:
    """(1, channels, height, width) of smooth noise with mean 0 and deviation 1 in each channel."""
    coarse = torch.from_numpy(draw.standard_normal((1, channels, 4, 4), np.float32)).to(like)
    field = F.interpolate(coarse, size=like.shape[-2:], mode="bicubic", align_corners=False)
    field = field - field.mean(dim=(2, 3), keepdim=True)
    return field / field.square().mean(dim=(2, 3), keepdim=True).sqrt().clamp_min(1e-6)


TURNS: Mapping[str, Callable[[Tensor, Tensor, np.random.Generator], Tensor]] = {
    "blend": _blend,
    "inset": _inset,
    "drift": _drift,
}
"""What `make` does to one photograph after another: how a first and a second latent become one."""
