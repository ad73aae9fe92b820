"""Makes the pictures in `samples/`: public-domain photographs, and pictures made from them by a generator trained here.

    python bench/samples.py --data MANIFEST --out samples --minutes 8 --seed 0

The manifest gives the real pictures of the training split that the generator learns from; none of them is written.
Needs the extra "train", and scikit-image for the photographs.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from assay.data import manifest
from assay.learn.maker import TURNS, Maker, MakerFields, load, make, train_maker
from assay.types import Label, Pixels, Sample

QUALITY = 92
"""JPEG quality of reals and fakes alike, so that the codec says nothing of the class."""


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph in scikit-image's wheel; `terms` and `credit` as its documentation states them."""

    name: str
    shows: str
    credit: str
    terms: str
    address: str = ""


PHOTOGRAPHS = (
    Photograph("astronaut", "Eileen Collins, astronaut", "NASA", "public domain", "https://flic.kr/p/r9qvLn"),
    Photograph("coffee", "a cup of coffee", "Rachel Michetti, courtesy of Pikolo Espresso Bar", "CC0-1.0"),
    Photograph(
        "rocket",
        "Falcon 9 lifting DSCOVR, 2015",
        "SpaceX",
        "public domain",
        "https://www.flickr.com/photos/spacexphotos/16511594820/",
    ),
    Photograph("camera", "a man with a camera (grey)", "Lav Varshney", "CC0-1.0"),
    Photograph("chelsea", "Chelsea, a cat", "Stefan van der Walt", "CC0-1.0"),
    Photograph(
        "grass",
        "grass (grey)",
        "linolafett",
        "CC0-1.0",
        "https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="manifest whose real training rows to learn from")
    parser.add_argument("--out", type=Path, default=Path("samples"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--steps", type=int, help="train this many steps instead, to repeat an earlier run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--upsampler", choices=("nearest", "transposed", "subpixel"), default="nearest")
    parser.add_argument("--maker", type=Path, help="where to keep the trained generator, or to find one")
    asked = parser.parse_args()

    torch.set_num_threads(1)
    photographs = [_photograph(photograph.name) for photograph in PHOTOGRAPHS]
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.maker or Path(temporary)
        if not (folder / "maker.json").exists():
            reals = manifest.select(manifest.read(asked.data), split="train", label=Label.REAL)
            train_maker(
                reals,
                MakerFields(upsampler=asked.upsampler),
                seed=asked.seed,
                minutes=None if asked.steps else asked.minutes,
                steps=asked.steps,
                out=folder,
                on_step=_progress,
            )
        maker = load(folder)
        record = (folder / "maker.json").read_text(encoding="utf-8")
    made = make(maker, photographs, asked.seed)

    samples: list[Sample] = []
    for photograph, real, fake in zip(PHOTOGRAPHS, photographs, made, strict=True):
        origin = hashlib.sha256(real.tobytes()).hexdigest()
        for label, pixels in ((Label.REAL, real), (Label.FAKE, fake)):
            place = asked.out / label.name.lower() / f"{photograph.name}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(_jpeg(pixels))
            samples.append(
                Sample(
                    place=str(place),
                    label=label,
                    generator=f"assay-maker-{maker.fields.upsampler}" if label is Label.FAKE else "",
                    source=photograph.credit if label is Label.REAL else "made by bench/samples.py",
                    origin=origin,
                    split="test",
                    groups={"licence": photograph.terms if label is Label.REAL else "CC0-1.0"},
                )
            )
    manifest.write(asked.out / "manifest.csv", sorted(samples, key=lambda sample: (str(sample.label), sample.place)))
    (asked.out / "README.md").write_text(_readme(maker, record, photographs, made, asked), encoding="utf-8")
    print(f"{len(samples)} pictures in {asked.out}")


def _photograph(name: str) -> Pixels:
    pixels: Pixels = getattr(skimage.data, name)()
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def _jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _progress(step: int, steps: int, loss: float) -> None:
    if step % 50 == 0:
        print(f"step {step} of {steps or '?'}, loss {loss:.3f}", file=sys.stderr, flush=True)


def _detail(pixels: Pixels) -> float:
    """Mean absolute difference of horizontal neighbours: how sharp a picture is, in grey levels."""
    return float(np.abs(np.diff(pixels.mean(axis=2), axis=1)).mean())


def _psnr(pixels: Pixels, other: Pixels) -> float:
    error = np.mean((pixels.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / error))


def _readme(maker: Maker, record: str, photographs: list[Pixels], made: list[Pixels], asked: argparse.Namespace) -> str:
    trained = json.loads(record)["record"]
    turns = list(TURNS)
    reals = "\n".join(
        f"| `real/{p.name}.jpg` | {p.shows} | {f'[{p.credit}]({p.address})' if p.address else p.credit} | {p.terms} |"
        for p in PHOTOGRAPHS
    )
    fakes = "\n".join(
        f"| `fake/{p.name}.jpg` | {turns[index % len(turns)]} | {_detail(fake):.1f} | {_detail(real):.1f} |"
        for index, (p, real, fake) in enumerate(zip(PHOTOGRAPHS, photographs, made, strict=True))
    )
    psnr = sorted(_psnr(real, maker.reconstruct(real)) for real in photographs)
    low, middle, high = (f"{value:.0f}" for value in (psnr[0], psnr[len(psnr) // 2], psnr[-1]))
    size = f"{sum(parameter.numel() for parameter in maker.parameters()) / 1e6:.1f} million"
    kind, batch = maker.fields.upsampler, maker.fields.batch
    steps, learnt_from = trained["steps"], trained["pictures"]
    command = (
        f"python bench/samples.py --data MANIFEST --out samples --steps {steps} --seed {asked.seed} --upsampler {kind}"
    )
    return f"""# Pictures to try assay on

{len(photographs)} photographs and {len(made)} pictures that no camera took. Each fake has the size and the JPEG
quality ({QUALITY}) of a real one, so neither tells them apart. `manifest.csv` lists them all, as test rows.

## Real

Photographs that scikit-image carries in its wheel, neither scaled nor cropped, saved once as JPEG (grey ones as RGB).
Credits and terms are as its documentation states them. The rocket was a JPEG before. That NASA, SpaceX and an
astronaut appear here is no endorsement by them.

| file | shows | by | terms |
|---|---|---|---|
{reals}

## Fake

Made by a generator that this project trains from nothing (`src/assay/learn/maker.py`): a convolutional variational
autoencoder of {size} parameters with a patch critic and {kind} upsampling, after {steps} steps of {batch} crops out of
{learnt_from} real pictures, none of them among the photographs above. Its weights are not part of the repository.

The photographs' latents are blended under a smooth mask (blend), one is set into another (inset), or one is shifted
smoothly (drift); each is drawn from its posterior, and every pixel is decoded. A file bears the name of the photograph
whose size it has. The fakes are dedicated to the public domain (CC0-1.0).

| file | how | sharpness | of the photograph |
|---|---|---|---|
{fakes}

Sharpness is the mean absolute difference of horizontal neighbours, in grey levels.

What they are worth: so short a training makes soft pictures with smeared fine texture; where two photographs meet, the
seam is plain to see, and nobody would take most of them for a photograph. Photographs merely passed through the
generator come back at {low} to {high} dB PSNR (median {middle}). The fakes carry the trace of a learned decoder, and
are there to see the tool work offline. Most are plainly less sharp than the photographs, so a measure of sharpness
alone would tell many apart. So few pictures of one generator measure nothing: no figure on them says how well a
detector does on other generators or on face swaps.

## Made by

```
{command}
```

The same processor, libraries and training pictures give the same pictures. `--minutes 8` instead of `--steps` trains as
far as that time goes.
"""


if __name__ == "__main__":
    main()
