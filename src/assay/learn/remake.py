"""Pseudo-fakes: real pictures passed through a small generator that was trained here (`assay.learn.maker`).

Both classes then share subject, camera, format and compression, and differ in a decoder's trace alone (Rajan et al.,
Aligned Datasets Improve Detection of Latent Diffusion-Generated Images, ICLR 2025). What else would tell them apart:

- *Detail.* A reconstruction is softer than its original, and "soft is fake" is learnt before any trace is. So its
  spectrum is taken part of the way back to the original's, ring by ring (`matched`), as Chen et al. align frequencies
  (Dual Data Alignment Makes AI-Generated Image Detector Easier Generalizable, NeurIPS 2025). *Paper*: blends the high
  frequencies themselves. *Ours*: scales the copy's own, so that none of the original's are in it, and the phase and
  the lattice of peaks that upsampling leaves stay.
- *A second saving.* A copy has its original's format and, where it is a JPEG, its tables and subsampling
  (`assay.data.derivations.augment.like`), and is cut on the original's grid of blocks; real rows were saved once less
  all the same. `assay data align` takes both through one more codec alike.
- *Size.* A copy shows a region of its picture, a real row the whole. What learns from crops does not see that.

This lives above `data/` because it needs torch; `assay.data.derive` runs it like any other derivation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.data.derivations import Derivation, Outcome, Piece, Source, passed_over
from assay.data.derivations.augment import like
from assay.data.table import Table
from assay.errors import BundleError, ManifestError, OutputError, RecipeError, unknown
from assay.image import memory
from assay.learn.maker import Maker, MakerFields, load, train_maker
from assay.types import Pixels, Sample

GROUP = "remade"

WHY = "unmade"
"""The group of a picture that was drawn and got no copy: why."""

_SMALL = MakerFields(
    factor=4, width=16, latent=32, blocks=1, kl=1e-6, adversarial=0, crop=48, batch=6, rate=4e-3, precision="fp32"
)

MAKERS: Mapping[str, MakerFields] = {
    "nearest-x4": _SMALL,
    "transposed-x4": _SMALL.model_copy(update={"upsampler": "transposed"}),
    "subpixel-x4": _SMALL.model_copy(update={"upsampler": "subpixel"}),
    # At a higher rate these two end in grey, or in a denoiser that takes no notice of the latent.
    "nearest-x8": _SMALL.model_copy(
        update={"factor": 8, "latent": 64, "adversarial": 0.02, "critic_from": 0.6, "rate": 3e-3}
    ),
    "diffusion-x4": _SMALL.model_copy(update={"decoder": "diffusion", "rate": 2e-3}),
    "transposed-x2": _SMALL.model_copy(update={"factor": 2, "latent": 8, "upsampler": "transposed"}),
}
"""What `train_makers` trains, by the names of their folders."""

_GRID = 16
"""Blocks of a JPEG with halved colour are so many px a side; a cut on their grid is one on every other grid of it."""

_BANDS = 32
_MOST = 4.0
"""The most by which a ring of the spectrum is made stronger or weaker, in amplitude: beyond it there is only noise."""

_ASIDE = 16
"""Pictures at most that no maker learns from, to measure them on."""


@dataclasses.dataclass(frozen=True)
class Remake(Derivation):
    """All rows of the source, and of some real training rows a fake copy that one of the makers decoded.

    Args:
        makers: folders of makers (`train_makers`); which one remakes a picture is drawn by content. A copy's generator
            is "assay-" and the maker's name: "assay-nearest-x4".
        share: of the n real training rows, in [0, 1]: just round(share × n) of them, chosen by content.
        match: how far a copy's spectrum is taken to its original's, in [0, 1]; 0 leaves it as it was decoded.
        side: longest side of a copy in px, from 32; of larger pictures a region is remade, its place drawn by content.

    Raises:
        RecipeError: no maker, or a number that does not hold.
    """

    name = "remake"
    summary = "all rows, and fake copies of real training pictures that a small generator decoded"

    makers: tuple[str, ...] = ()
    share: float = 0.5
    match: float = 0.5
    side: int = 512

    def __post_init__(self) -> None:
        if not self.makers:
            raise RecipeError("no makers; give the folders of some (assay data makers)")
        for name in ("share", "match"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} {getattr(self, name)} does not hold; give 0 to 1")
        if self.side < 32:
            raise RecipeError(f"side {self.side} does not hold; give 32 px or more")

    def ready(self) -> None:
        for folder in self.makers:
            _maker(folder)

    def parameters(self) -> dict[str, Any]:
        # What a maker is, not where: the set is the same when its folder moves, and another when it was trained anew.
        return super().parameters() | {"makers": [_content(folder) for folder in self.makers]}

    @property
    def drawn(self) -> float:
        return self.share

    def unread(self, sample: Sample) -> Outcome | None:
        return passed_over(sample, GROUP)

    def derive(self, source: Source, rng: np.random.Generator) -> Outcome:
        if not source.drawn:
            return Outcome(keep=_stays())
        maker = _maker(self.makers[int(rng.integers(len(self.makers)))])
        original = _region(source.still(), self.side, rng)
        with _one_thread():
            decoded = maker.reconstruct(original)
        fake = matched(decoded, original, self.match)
        if np.array_equal(fake, original):
            return Outcome(keep=_stays("decoding left it as it was"))
        data, suffix = like(source.data, source.picture, fake)
        piece = Piece(data, suffix, f"assay-{maker.fields.name}", groups={GROUP: "1", WHY: ""})
        return Outcome((piece,), keep=_stays())

    def tally(self, rows: Table) -> dict[str, int]:
        copies = rows[rows.column(GROUP) == "1"]
        made = sorted(set(copies.column("generator").tolist()))
        each = {f"by {name}": int((copies.column("generator") == name).sum()) for name in made}
        reasons = rows.column(WHY) if WHY in rows.groups else np.array([])
        kept = {
            f"drawn and not remade: {why}": int((reasons == why).sum()) for why in sorted({*reasons.tolist()} - {""})
        }
        return {"remade copies": len(copies), **each, **kept}


def matched(fake: Pixels, original: Pixels, match: float) -> Pixels:
    """A picture whose spectrum has, ring by ring, more nearly the power of another's.

    The power in each ring of equal frequency, over the three channels, is multiplied by ratio ** match, the ratio being
    the original's over the fake's; between the middles of rings the factor changes evenly, and it is bounded. Phases
    and what differs within a ring stay. So does the mean.

    Args:
        fake, original: (height, width, 3) uint8 of one shape.
        match: 0 leaves the fake as it is, 1 gives each ring the original's power.
    """
    if match == 0:
        return fake
    height, width = fake.shape[:2]
    spectra = [np.fft.rfft2(pixels.astype(np.float32), axes=(0, 1)) for pixels in (fake, original)]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]).astype(np.float32)
    # In cycles a pixel: 0.5 is the limit along a side, its root of two in a corner.
    place = radius / np.float32(0.5**0.5) * _BANDS
    ring = np.minimum(place.astype(np.intp), _BANDS - 1)
    of_fake, of_original = (
        np.bincount(ring.ravel(), (np.abs(spectrum) ** 2).sum(axis=2).ravel(), _BANDS) for spectrum in spectra
    )
    gain = np.sqrt((of_original + 1) / (of_fake + 1)) ** match
    gains = np.interp(place, np.arange(_BANDS) + 0.5, np.clip(gain, 1 / _MOST, _MOST)).astype(np.float32)
    gains[0, 0] = 1
    pixels = np.fft.irfft2(spectra[0] * gains[..., None], s=(height, width), axes=(0, 1))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def train_makers(
    samples: Sequence[Sample],
    out: str | os.PathLike[str],
    *,
    minutes_each: float | None = None,
    steps_each: int | None = None,
    seed: int = 0,
    recipes: Mapping[str, MakerFields] = MAKERS,
    on_step: Callable[[str, int, int, float], None] | None = None,
) -> dict[str, Path]:
    """Train several makers on real pictures, each in a folder of its own; one that is there already is kept.

    A few pictures, at most 16 and an eighth of them, are held out from all makers: `maker.json` has the mean PSNR on
    them, in dB, as "psnr".

    Args:
        samples: real rows of the training split, of two pictures or more.
        out: `out/NAME` becomes the maker's folder, once it is whole.
        minutes_each, steps_each: how long each is trained; one of the two.
        seed: of what is held out, and of each maker's weights, crops and noise.
        recipes: what to train, by name.
        on_step: called with the name and what `train_maker` tells: step, steps, loss.

    Returns:
        The folders by name.

    Raises:
        ManifestError: samples are not real pictures of the training split, or too few.
        OutputError: there is another maker of that name (kind "output").
        BundleError: a maker that is there cannot be read.
        RecipeError: not just one of `minutes_each` and `steps_each` is given.
        InputError: a picture cannot be read.
    """
    learnt, held_out = _apart(samples, seed)
    memory.keep(everything=True)
    folders = {name: Path(out) / name for name in recipes}
    for name, folder in folders.items():
        if folder.exists():
            if load(folder).fields != recipes[name]:
                raise OutputError(f"{folder} holds a maker of other fields; give another folder, or take it away")
            continue
        part = folder.with_name(f"{name}.part")
        train_maker(
            learnt,
            recipes[name],
            seed=seed,
            minutes=minutes_each,
            steps=steps_each,
            held_out=held_out,
            out=part,
            on_step=None if on_step is None else functools.partial(on_step, name),
        )
        part.rename(folder)
    return folders


def makers_in(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The folders of the makers in a folder, by name; itself where it is one.

    Raises:
        BundleError: there is none (kind "missing").
    """
    place = Path(folder)
    found = sorted(card.parent for card in (*place.glob("maker.json"), *place.glob("*/maker.json")))
    found = [each for each in found if each.suffix != ".part"]
    if not found:
        raise BundleError(f"{place}: no maker there; train some with assay data makers", kind="missing")
    return tuple(map(str, found))


def recipe(name: str) -> MakerFields:
    """The recipe of that name in `MAKERS`. Raises RecipeError naming the nearest."""
    if name not in MAKERS:
        raise RecipeError(unknown("maker", name, MAKERS))
    return MAKERS[name]


def _apart(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """What is learnt from and what is held out; a picture and its copies (one origin) stand on one side."""
    originals = sorted({sample.origin or sample.place for sample in samples})
    if len(originals) < 2:
        raise ManifestError(
            "makers need two real training pictures or more, one to learn from and one to be measured on; there are "
            f"{len(originals)}"
        )
    count = max(1, min(_ASIDE, len(originals) // 8))
    chosen = np.random.default_rng(seed).choice(len(originals), count, replace=False)
    aside = {originals[index] for index in chosen}
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in samples:
        parts[(sample.origin or sample.place) in aside].append(sample)
    return parts


@functools.cache
def _maker(folder: str) -> Maker:
    """One for each process, for as long as it lives."""
    return load(folder)


def _content(folder: str) -> str:
    """SHA-256 of what a maker decodes by."""
    maker = _maker(folder)
    content = hashlib.sha256(maker.fields.model_dump_json().encode())
    for name, tensor in maker.state_dict().items():
        content.update(name.encode() + tensor.numpy().tobytes())
    return content.hexdigest()


def _region(pixels: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """The picture, or a part of it of at most `side` px a side."""
    height, width = pixels.shape[:2]
    down, across = rng.random(2)
    top = _GRID * int(down * (max(0, height - side) // _GRID + 1))
    left = _GRID * int(across * (max(0, width - side) // _GRID + 1))
    return pixels[top : top + side, left : left + side].copy()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Several processes share the cores; and another number of threads may sum in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _stays(why: str = "") -> dict[str, str]:
    """Groups of a real picture's own row."""
    return {GROUP: "0", WHY: why}
