"""Published detectors beside ours: the same rows, the same pixels, the same conditions, one run.

    python bench/public.py MANIFEST --ferretnet FOLDER --ladeda FOLDER
    python bench/public.py MANIFEST --ferretnet FOLDER --conditions clean,jpeg75,social --by unseen --out FILE.json

FOLDER is a checkout of the authors' repository. Nothing of theirs is part of this project: the network's definition is
imported from the checkout, so it runs as code, and give only what you trust; the weights are read as plain tensors and
must fit to the last name. What is not there is named and left out. Both give logits of a fake.

FerretNet-S (Liang et al., NeurIPS 2025, arXiv 2509.20890; xigua7105/FerretNet@e92796c). The network is that of
configs/cfgs/FerretNet-S-Median-3.yaml. A picture is prepared as the same file tests it (`test_transforms`): the middle
256 px at native resolution, smaller ones padded with black, CLIP's mean and deviation; fake is what has a sigmoid above
.5 (src/tester/syn_tester.py). Their tester runs in half precision where there is a GPU, this one in float32.
demo_image.py shows the whole picture instead, which is not done here.

Tiny-LaDeDa (Cavia et al., arXiv 2406.09398; barcavia/RealTime-DeepfakeDetection-in-the-RealWorld@e734562), with the
weights trained on ForenSynths and those trained on WildRF. Prepared as test.py and data/datasets.py do: the whole
picture resized to 256 x 256 px whatever its shape (bilinear), no crop, ImageNet's mean and deviation; fake is what has
a sigmoid above .5 (validate.py). test.py builds the large LaDeDa whatever it is told, so the small network is built as
networks/tiny_trainer.py does. It looks at gradients along the right diagonal (options/base_options.py,
`tiny_preprocess`); but so the ForenSynths weights call every picture fake, and the statistics in their norms are those
of another choice that the definition has, "NPR", which they get here (*ours*). `--native` adds both once more without
the resize (*ours*): the network's pooling takes squares only, so it is switched off, as the definition allows, and the
map of the patches' logits is averaged, which on a square is the same. An odd last row or column is cut off, as "NPR"
fails on it.

Each picture is decoded and altered once, and all detectors are shown those pixels. What one of them can't take is
counted, and is no score. Rows that our detector was made with are refused; what theirs were trained on, nobody here
knows. Prints Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import nn
from torchvision import transforms

import assay
from assay import metrics
from assay.data import manifest
from assay.data.table import field
from assay.errors import AssayError, ManifestError, OverlapError, RecipeError, unknown
from assay.judge.seen import Seen
from assay.learn import weights
from assay.measure import resample
from assay.measure.block import Block, markdown
from assay.measure.controls import look_at_all
from assay.measure.evaluate import FEWEST, UNNAMED, Judged, Judging, Progress, Table, figures, overlaps
from assay.measure.paired import delong
from assay.measure.report import NAMES, both
from assay.measure.robustness import Condition, conditions, passes
from assay.metrics import Interval, finite
from assay.types import Failure, Label, Pixels, Ruling, Sample, Verdict

USUAL = "clean,jpeg75,jpeg50,webp80,half,blur1,noise10,screenshot,social"
FIGURES = ("auc", "tpr_at_fpr_5", "balanced_accuracy", "fpr")
ALL = "all"
PAIRED = "On rows with both scores, the same pictures drawn for both. DeLong's p takes pictures for independent."

CLIP = transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclasses.dataclass(frozen=True)
class Published:
    """A detector that its authors published.

    Args:
        name: as the tables call it.
        option: of the command, which gives the checkout.
        code: the checkout's files that define the network.
        weights: the checkout's file that holds them.
        build: the modules of `code` to the network; of (1, 3, height, width) it makes one logit, or a map of them.
        prepare: a picture to its input, (3, height, width).
        native: whether this is our variant, without the authors' resize.
    """

    name: str
    option: str
    code: tuple[str, ...]
    weights: str
    build: Callable[..., nn.Module]
    prepare: Callable[[Image.Image], torch.Tensor]
    native: bool = False


def _ferretnet(network: ModuleType, lpd: ModuleType) -> nn.Module:
    built: nn.Module = network.Ferret(
        in_channels=3,
        num_classes=1,
        dim=32,
        depths=[2, 2],
        lpd_func="median",
        window_size=3,
        lpd_dict=lpd.get_lpd_dict(),
    )
    return built


def even(picture: Image.Image) -> Image.Image:
    """Without an odd last row and column."""
    return picture.crop((0, 0, picture.width // 2 * 2, picture.height // 2 * 2))


def _ladeda(trained: str, sees: str, *, native: bool = False) -> Published:
    def build(network: ModuleType) -> nn.Module:
        built: nn.Module = network.tiny_ladeda(preprocess_type=sees, num_classes=1, pool=not native)
        # Theirs too: the last layer that the definition makes has another width than the features.
        built.fc = nn.Linear(8, 1)
        return built

    sized = even if native else transforms.Resize((256, 256))
    return Published(
        name=f"Tiny-LaDeDa ({trained}{', native' if native else ''})",
        option="ladeda",
        code=("networks/Tiny_LaDeDa.py",),
        weights=f"weights/Tiny_LaDeDa/{trained}_Tiny_LaDeDa.pth",
        build=build,
        prepare=transforms.Compose([sized, transforms.ToTensor(), IMAGENET]),
        native=native,
    )


PUBLISHED = (
    Published(
        name="FerretNet-S",
        option="ferretnet",
        code=("src/model/ferretnet.py", "src/model/lpd.py"),
        weights="checkpoints/4cls_ckpt/ferretnet-s-median-3.pth",
        build=_ferretnet,
        prepare=transforms.Compose([transforms.CenterCrop((256, 256)), transforms.ToTensor(), CLIP]),
    ),
    _ladeda("ForenSynth", "NPR"),
    _ladeda("WildRF", "right_diag"),
    _ladeda("ForenSynth", "NPR", native=True),
    _ladeda("WildRF", "right_diag", native=True),
)


@dataclasses.dataclass(frozen=True)
class Public:
    """A published detector that judges pixels, as `assay.measure.robustness` asks it to.

    Args:
        name: as the tables call it.
        network, prepare: as `Published` says.
        sha256: of the weights' file.
        refused: why pictures got no score, and how many.
        threshold, doubt: the authors'; they leave nothing open.
        fpr: not known.
        seen: nothing, as nobody says what it was trained on.
    """

    name: str
    network: nn.Module
    prepare: Callable[[Image.Image], torch.Tensor]
    sha256: str
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    threshold: float = 0.5
    doubt: tuple[float, float] = (0.5, 0.5)
    fpr: float = math.nan
    seen: Seen = dataclasses.field(default_factory=Seen)

    def judge_many(self, sources: Iterable[Pixels]) -> Iterator[Verdict | Failure]:
        """A verdict, or a failure, for each picture, in their order."""
        for pixels in sources:
            answer = self._judged(pixels)
            if isinstance(answer, Failure):
                self.refused[answer.message] += 1
            yield answer

    def _judged(self, pixels: Pixels) -> Verdict | Failure:
        try:
            with torch.inference_mode():
                logit = float(self.network(self.prepare(Image.fromarray(pixels))[None]).double().mean())
        except RuntimeError as error:  # torch's own, such as a picture smaller than a kernel, or memory that is short
            return Failure("<array>", "not_taken", str(error).partition("\n")[0])
        if not math.isfinite(logit):
            return Failure("<array>", "not_taken", "its network gives no number")
        # In the sigmoid's order and with its middle; but that is exactly 1 from 37 on, and ties cost AUC.
        score = (1 + logit / (1 + abs(logit))) / 2
        height, width = pixels.shape[:2]
        return Verdict(
            verdict=Ruling.FAKE if score >= self.threshold else Ruling.REAL,
            score=score,
            threshold=self.threshold,
            doubt=self.doubt,
            fpr=self.fpr,
            streams=(),
            reasons=(),
            detector={"name": self.name, "version": "", "sha256": self.sha256},
            input="<array>",
            sha256="",
            width=width,
            height=height,
        )


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """A folder whose modules can be imported meanwhile, and are forgotten afterwards: another checkout may have some
    of the same names."""
    path, before = str(folder), set(sys.modules)
    sys.path.insert(0, path)
    try:
        yield
    finally:
        sys.path.remove(path)
        for name in set(sys.modules) - before:
            places = (getattr(sys.modules[name], "__file__", None), *getattr(sys.modules[name], "__path__", ()))
            if any(place and Path(place).resolve().is_relative_to(folder.resolve()) for place in places):
                del sys.modules[name]


def imported(path: Path) -> ModuleType:
    """A module from its file, whatever the packages around it import."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(published: Published, checkout: Path) -> Public:
    """A published detector from its checkout.

    Raises:
        RecipeError: the weights can't be read as plain tensors, or are not those of the network.
    """
    read = weights.read(str(checkout / published.weights))
    with importable(checkout):
        network = published.build(*(imported(checkout / path) for path in published.code))
    try:
        network.load_state_dict(dict(read.tensors), strict=True)
    except RuntimeError as error:
        raise RecipeError(
            f"{published.name}: {published.weights} does not fit the checkout's network: {error}"
        ) from error
    [sha256] = read.files.values()
    return Public(published.name, network.eval(), published.prepare, sha256)


def public(checkouts: Mapping[str, Path | None], *, native: bool) -> list[Public]:
    """The published detectors whose checkouts are there; the others are named on standard error.

    Args:
        checkouts: by option.
        native: the variants without resize too.
    """
    found = []
    for published in PUBLISHED:
        if published.native and not native:
            continue
        checkout = checkouts[published.option]
        if checkout is None:
            print(f"{published.name} is left out: no --{published.option}", file=sys.stderr)
            continue
        lost = [path for path in (*published.code, published.weights) if not (checkout / path).is_file()]
        if lost:
            print(f"{published.name} is left out: {checkout} has no {', '.join(lost)}", file=sys.stderr)
            continue
        found.append(load(published, checkout))
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One detector on one group under one condition.

    Args:
        n_real, n_fake: rows with a score.
        without: labelled rows without one.
        figures: those of `FIGURES`, as `assay.measure.evaluate.figures` takes them.
    """

    group: str
    condition: str
    detector: str
    n_real: int
    n_fake: int
    without: int
    figures: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        whole = {
            name: getattr(self, name) for name in ("group", "condition", "detector", "n_real", "n_fake", "without")
        }
        return whole | {name: figure.to_dict() for name, figure in self.figures.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Lead:
    """What our detector has more than one of theirs, on the rows that both have a score for.

    Args:
        difference: our AUC less theirs; interval bootstrapped by source, each round the same pictures for both.
        p: of DeLong's test, which takes pictures for independent; NaN where a class has too few rows for an interval.
    """

    group: str
    condition: str
    detector: str
    n_real: int
    n_fake: int
    difference: Interval
    p: float

    def to_dict(self) -> dict[str, Any]:
        whole = {name: getattr(self, name) for name in ("group", "condition", "detector", "n_real", "n_fake")}
        return whole | {"difference": self.difference.to_dict(), "p": finite(self.p)}


def measure(
    detectors: Mapping[str, Judging],
    samples: Sequence[Sample],
    under: Mapping[str, Condition],
    *,
    by: Sequence[str] = (),
    rounds: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Cell], list[Lead]]:
    """Every detector on every group under every condition, and the lead of the first over each of the others.

    Args:
        detectors: by name, ours first.
        samples: labelled rows.
        under: conditions by name.
        by: columns whose values make groups, beside that of all rows.
        rounds, seed: of the bootstrap.
        progress: told (condition, done, total).
    """
    groups = grouped(samples, by)
    ours, *theirs = detectors
    cells, leads = [], []
    for condition, found in passes(list(detectors.values()), samples, under, progress=progress):
        if condition not in under:  # The pictures as they are come first, asked for or not.
            continue
        for group, places in groups.items():
            shown = {
                name: [row for row in judged if row.score is not None and row.sample.place in places]
                for name, (judged, _) in zip(detectors, found, strict=True)
            }
            for name, rows in shown.items():
                n_real, n_fake = classes(rows)
                taken = figures(rows, rounds=enough(rows, rounds), seed=seed)
                kept = {figure: taken[figure] for figure in FIGURES}
                cells.append(Cell(group, condition, name, n_real, n_fake, len(places) - len(rows), kept))
            for name in theirs:
                mine, others = shared(shown[ours], shown[name])
                leads.append(Lead(group, condition, name, *classes(mine), *ahead(mine, others, rounds, seed)))
    return cells, leads


def grouped(samples: Sequence[Sample], by: Sequence[str]) -> dict[str, set[str]]:
    """The places of the rows of each group: all of them, and each value of each column."""
    groups = {ALL: {sample.place for sample in samples}}
    for column in by:
        cells = [(field(sample, column) or UNNAMED, sample.place) for sample in samples]
        for value in sorted({value for value, _ in cells}):
            groups[f"{column} {value}"] = {place for cell, place in cells if cell == value}
    return groups


def classes(rows: Sequence[Judged]) -> tuple[int, int]:
    """How many reals and fakes."""
    fakes = sum(row.sample.label is Label.FAKE for row in rows)
    return len(rows) - fakes, fakes


def enough(rows: Sequence[Judged], rounds: int) -> int:
    """Rounds of the bootstrap; none where a class has too few rows to stand for others."""
    return rounds if min(classes(rows)) >= FEWEST else 0


def shared(first: Sequence[Judged], second: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """The scored rows that both have, as each judged them."""
    theirs = {row.sample.place: row for row in second}
    mine = [row for row in first if row.sample.place in theirs]
    return mine, [theirs[row.sample.place] for row in mine]


def ahead(ours: Sequence[Judged], theirs: Sequence[Judged], rounds: int, seed: int) -> tuple[Interval, float]:
    """`Lead.difference` and `Lead.p` of the same scored rows in the same order."""
    table, others, drawn = Table.of(ours), Table.of(theirs).scores, enough(ours, rounds)
    value = metrics.auc(table.labels, table.scores) - metrics.auc(table.labels, others)
    now, before = (
        resample.drawn(resample.AUC, table.labels, scores, clusters=table.sources, rounds=drawn, seed=seed)
        for scores in (table.scores, others)
    )
    p = delong(table.labels, others, table.scores).p if drawn else math.nan
    return resample.interval(value, now - before, len(ours)), p


def tables(cells: Sequence[Cell], leads: Sequence[Lead], note: str) -> list[Block]:
    """What was measured, as tables."""
    rows = [
        (
            *(cell.group, cell.condition, cell.detector, str(cell.n_real), str(cell.n_fake), str(cell.without)),
            *(both(cell.figures[name], name) for name in FIGURES),
        )
        for cell in cells
    ]
    columns = ("rows", "condition", "detector", "real", "fake", "no score", *(NAMES[name] for name in FIGURES))
    blocks = [Block("Detectors side by side", columns, rows, note)]
    if leads:
        rows = [
            (
                *(one.group, one.condition, one.detector, str(one.n_real), str(one.n_fake)),
                *(_signed(one.difference), f"{one.p:.3f}" if math.isfinite(one.p) else "–"),
            )
            for one in leads
        ]
        columns = ("rows", "condition", "theirs", "real", "fake", "AUC, ours less theirs", "p (DeLong)")
        blocks.append(Block("Ours less theirs", columns, rows, PAIRED))
    return blocks


def _signed(figure: Interval) -> str:
    if math.isnan(figure.value):
        return "–"
    return f"{figure.value:+.3f}" + ("" if math.isnan(figure.low) else f" ({figure.low:+.3f} to {figure.high:+.3f})")


def chosen(samples: Iterable[Sample], split: str, by: Sequence[str]) -> list[Sample]:
    """The labelled rows of a split. Raises ManifestError where there are none, or no column of a name in `by`."""
    known = [sample for sample in manifest.select(samples, split=split) if sample.label is not None]
    if not known:
        raise ManifestError(f"no labelled row has the split {split!r}")
    columns = {"generator", "source", "subject"}.union(*(sample.groups for sample in known))
    for column in by:
        if column not in columns:
            raise ManifestError(unknown("column", column, columns))
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--detector", help="ours: a name or a bundle's folder; the one that ships unless given")
    parser.add_argument("--ferretnet", type=Path, metavar="FOLDER", help="a checkout of xigua7105/FerretNet")
    parser.add_argument(
        "--ladeda",
        type=Path,
        metavar="FOLDER",
        help="a checkout of barcavia/RealTime-DeepfakeDetection-in-the-RealWorld",
    )
    parser.add_argument("--native", action="store_true", help="Tiny-LaDeDa once more, without its resize")
    parser.add_argument("--conditions", default=USUAL, help="as assay evaluate takes them, with commas between")
    parser.add_argument("--split", default="test")
    parser.add_argument(
        "--by", action="append", default=[], metavar="COLUMN", help="figures for each of its values too"
    )
    parser.add_argument("--allow-seen", action="store_true", help="also rows our detector was made with: no test")
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    try:
        return run(asked)
    except AssayError as error:
        print(error, file=sys.stderr)
        return 1


def run(asked: argparse.Namespace) -> int:
    """What `main` was asked for; the exit status."""
    under = conditions(asked.conditions.split(","))
    samples = chosen(manifest.read(asked.manifest, check=False), asked.split, asked.by)
    ours = assay.load(asked.detector, threads=asked.threads)
    theirs = public({"ferretnet": asked.ferretnet, "ladeda": asked.ladeda}, native=asked.native)
    seen = overlaps(ours, samples, look_at_all([sample.place for sample in samples]))
    if seen and not asked.allow_seen:
        first, why = seen[0]
        raise OverlapError(
            f"{ours.name} was made with {len(seen)} of these {len(samples)} rows, the first {samples[first].place} "
            f"({why}); leave them out, or say --allow-seen and call the result no test",
            [samples[index].place for index, _ in seen],
        )
    detectors: dict[str, Judging] = {ours.name: ours, **{one.name: one for one in theirs}}
    cells, leads = measure(
        detectors, samples, under, by=asked.by, rounds=asked.rounds, seed=asked.seed, progress=_progress
    )
    n_real = sum(sample.label is Label.REAL for sample in samples)
    note = (
        f"Split {asked.split}: {n_real} real, {len(samples) - n_real} fake. Each detector's threshold is its own: of "
        f"{ours.name} {ours.threshold:.3f}, of the others .5. TPR at 5 % FPR has its threshold from these very reals, "
        "so it favours all alike. Intervals are 95 %, by source within each class."
    )
    if seen:
        note += f" No test: {ours.name} was made with {len(seen)} of the rows."
    print("\n\n".join(markdown(block, 2) for block in tables(cells, leads, note)))
    for one in theirs:
        for reason, count in one.refused.most_common():
            print(f"{one.name}: {count} pictures without a score: {reason}", file=sys.stderr)
    if asked.out:
        told = {
            "detector": {"name": ours.name, "version": ours.version, "sha256": ours.sha256},
            "public": [{"name": one.name, "sha256": one.sha256, "refused": dict(one.refused)} for one in theirs],
            "split": asked.split,
            "n_real": n_real,
            "n_fake": len(samples) - n_real,
            "seen": len(seen),
            "rounds": asked.rounds,
            "seed": asked.seed,
            "cells": [cell.to_dict() for cell in cells],
            "leads": [one.to_dict() for one in leads],
        }
        asked.out.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def _progress(stage: str, done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"{stage}: {done}/{total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
