"""All studies of a recipe on one manifest: what the docs say of CoDE and DFCon was made by this command.

    python bench/studies.py MANIFEST OUT [--recipe code24] [--together 2] [--only code24-heads …]

MANIFEST is the one that bench/gather.py writes; for herd24, that of bench/herd_rows.py. OUT gets manifest.csv, a folder
for each study, and what the studies share: decoded pictures and trained runs. Run again, it goes on where it was
stopped. At its end RECIPE.md has the figures of all of them, which the docs are written from; each study's folder has
the whole tables.

The studies run side by side, one thread each. Every arm of a study is given the same number of views, or the same
processor time where networks or views differ. The networks are small variants of the recipes: CoDE's ViT-Tiny at 224 px
takes nine steps in the minutes that an arm has here. DFCon's vote is studied on the small networks of each family
(pocket), losses on one much smaller (thin), without augmented copies, which each other set of rows would need anew.

The manifest is the given one with two columns more, and fewer tuning rows of the largest sources:

- family: what makes generators alike, so that leaving one out leaves out its kin: "gan", "sd1" (Stable Diffusion 1.x),
  "gpt-gemini" (picture models inside language models); empty where it is another, or not known.
- domain: what pictures show: "faces", "places", "mixed".
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from assay.data import manifest
from assay.types import Sample

FAMILIES = {
    "gan": ("stylegan", "doesnotexist", "notexist", "gan family", "biggan"),
    "sd1": ("sd1.", "stable diffusion 1"),
    "gpt-gemini": ("nano-banana", "gpt", "gemini"),
}
"""Words in a generator's name, in lower case."""

DOMAINS = {
    "faces": ("stylegan2-faces", "generated-faces", "facenotexist", "Face-Mask-Detection", "codebasics/py", "AI face"),
    "places": ("Houses-dataset", "SelfExSR", "rentaldoesnotexist", "mountaindoesnotexist", "beachdoesnotexist"),
}
"""Words in the name of a generator, or of a real source. kurlyto's reals are places too: they came with its fakes."""

TUNED = 60
"""Tuning rows of one source or generator, at most."""

COMMON = ("--workers", "0")
EQUAL = ("--equal", "compute")
MINUTES = (*EQUAL, "--minutes", "3")
"""For the study whose first arm is ViT-Tiny, which takes three times as long for as many views."""


def arms(*names: str) -> tuple[str, ...]:
    """Options that name some arms of a study."""
    return tuple(word for name in names for word in ("--arm", name))


@dataclasses.dataclass(frozen=True)
class Job:
    """A study to run.

    Args:
        study: its name.
        seeds: runs of each arm.
        options: further ones of `assay study`. Where arms are named, the others are left for a longer run (--all).
        base: the recipe under its arms.
        views: of each arm; 0 where the options say how long.
        by: the column that figures are broken down by.
    """

    study: str
    seeds: int
    options: tuple[str, ...] = ()
    base: str = "code24:pocket"
    views: int = 57_600
    by: str = "family"


RATE = ("--set", "descend.optimiser.learning_rate=0.003", "--set", "fit.records=4000")
"""CoDE's pocket variant, as it was chosen on tuning rows."""

PLAIN = ("--set", "derive=[]")
"""Without augmented copies."""

POCKET: dict[str, Any] = {"base": "dfcon25:pocket", "views": 23_040}
"""80 steps of each of three networks, 24 pairs, two views of each picture."""

THIN: dict[str, Any] = {"base": "dfcon25:thin", "views": 14_400}
"""150 steps of one network."""

FEW = ("--set", "fit.records=2000")
"""Pictures that perceptrons are fitted on: as many of each class."""

DRIFT: dict[str, Any] = {"base": "drift26", "views": 25_920}
"""90 steps of each of three streams, 48 pairs."""

SHORT = ("--set", "pretrain.steps=50")
"""200 steps of contrastive training for the network that the streams share."""

HERD: dict[str, Any] = {"base": "herd24:autoencoder", "views": 2_880, "by": "kind"}
"""90 steps of net A, 16 pairs, after the 900 that all arms begin with."""

CROPS = ("--set", "autoencoder.view.fallback=true")
"""Rows are crops of faces (bench/herd_rows.py): one in which no face is found again is judged as it is."""

BOTH = ("--set", "variational.view.fallback=true")

FEWER = ("--set", "pretrain.steps=50")
"""300 steps before the lessons, where arms have networks or rows of their own."""

RATIOS = arms("1-none", *(f"{ratio}-{way}" for ratio in (10, 20) for way in ("none", "weight", "sampling")))

KINDS = arms("weight-augmentation-mask", "without-blend", "without-whole")

PLANS: dict[str, tuple[Job, ...]] = {
    "code24": (
        Job("code24-ablation", 3, RATE),
        Job("code24-backbone", 1, (*RATE, *MINUTES), views=0),
        Job("code24-unseen", 3, RATE),
        Job("code24-bce", 1, (*RATE, *EQUAL)),
        Job("code24-heads", 3, RATE),
        Job("code24-transforms", 1, RATE),
        Job("code24-domains", 1, (*RATE, *arms("all", "without-faces", "without-places")), by="domain"),
        Job("code24-compression", 1, RATE),
        Job("code24-foundation", 1, RATE),
        Job("code24-crops", 1, (*RATE, *arms("full", "local-224-of-224", "one-to-one"))),
    ),
    "dfcon25": (
        Job("dfcon25-ensemble", 3, FEW, **POCKET),
        Job(
            "dfcon25-manifold",
            1,
            (*FEW, *PLAIN, *arms("full", "unified", "without-gan", "unified-without-gan")),
            **THIN,
        ),
        Job("dfcon25-separation", 1, (*FEW, *PLAIN), **THIN),
        Job("dfcon25-fairness", 1, FEW, by="domain", **POCKET),
    ),
    "drift26": (
        Job("drift26-degradation", 3, SHORT, **DRIFT),
        Job("drift26-streams", 3, SHORT, **DRIFT),
        Job("drift26-calibration", 3, SHORT, **DRIFT),
        Job("drift26-skip", 1, SHORT, **DRIFT),
        Job("drift26-attention", 1, SHORT, **DRIFT),
        Job("drift26-attack", 1, SHORT, **DRIFT),
        Job("drift26-forms", 1, SHORT, **DRIFT),
    ),
    "herd24": (
        Job("herd24-ablation", 3, (*CROPS, "--minutes", "0.6"), **HERD | {"views": 0}),
        Job("herd24-eyes", 1, CROPS, **HERD),
        Job("herd24-augmentation", 1, CROPS, **HERD),
        Job("herd24-imbalance", 1, (*CROPS, *FEWER, *RATIOS), **HERD),
        Job("herd24-transfer", 1, (*CROPS, *FEWER, *KINDS), **HERD),
        Job("herd24-hybrid", 1, (*CROPS, *FEWER, "--minutes", "0.6"), **HERD | {"views": 0}),
        Job("herd24-nets", 1, (*CROPS, *BOTH, *FEWER), **HERD | {"base": "herd24", "views": 5_760}),
    ),
}
"""Of each recipe. The students of dfcon25-distill are left to `assay distill`: their teacher takes longest to judge."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", choices=tuple(PLANS), default="code24", help="whose studies")
    parser.add_argument("--together", type=int, default=2, help="studies that run at the same time")
    parser.add_argument("--all", action="store_true", help="run every arm of every study, also those left out here")
    parser.add_argument("--only", action="append", help="a study; may be repeated")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = arguments.out / "manifest.csv"
    if not table.exists():
        manifest.write(table, columned(list(manifest.read(arguments.manifest, check=False))))
    plan = PLANS[arguments.recipe]
    waiting = collections.deque(job for job in plan if not arguments.only or job.study in arguments.only)
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed = []
    while waiting or running:
        while waiting and len(running) < arguments.together:
            job = waiting.popleft()
            if arguments.all and "--arm" in job.options:
                job = dataclasses.replace(job, options=job.options[: job.options.index("--arm")])
            running[job.study] = started(job, table, arguments.out)
            print("started", job.study, flush=True)
        time.sleep(1)
        for name, process in list(running.items()):
            if process.poll() is not None:
                print("ended", name, process.returncode, flush=True)
                failed += [name] if process.returncode else []
                del running[name]
    (arguments.out / f"{arguments.recipe}.md").write_text(summary(plan, arguments.out), "utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}; their logs lie in {arguments.out}", file=sys.stderr)
    return 1 if failed else 0


def started(job: Job, table: Path, out: Path) -> subprocess.Popen[bytes]:
    """`assay study` in a process of its own, which leaves a log beside its folder."""
    command = [sys.executable, "-m", "assay", "study", job.study, "--data", str(table), "--out", str(out / job.study)]
    command += ["--base", job.base, "--seeds", str(job.seeds), "--shared", str(out / "shared"), "--by", job.by]
    command += ["--views", str(job.views)] if job.views else []
    command += [*COMMON, *job.options]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (out / f"{job.study}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | threads)


def summary(plan: Sequence[Job], out: Path) -> str:
    """Every study that has a report, as Markdown: figures with 95 % intervals, and each arm less the first."""
    parts = []
    for job in plan:
        file = out / job.study / "report.json"
        if file.exists():
            told = json.loads(file.read_text("utf-8"))
            parts += [f"## {job.study}", told["question"], *_summed(told)]
    return "\n\n".join(parts) + "\n"


def _summed(told: dict[str, Any]) -> Iterator[str]:
    plan = told["plan"]
    steps = ", ".join(f"{arm} {count}" for arm, count in plan["steps"].items())
    yield f"{told['seeds']} seeds; steps: {steps}; budget {plan['amount']}, equal {plan['asked']['equal']}"
    less = {(row["arm"], row["head"], row["condition"], row["statistic"]): row["difference"] for row in told["paired"]}
    lines = ["| arm | head | condition | accuracy, % | AUC | AUC less the first | n |", "|---|---|---|---|---|---|---|"]
    for row in told["figures"]:
        where = row["arm"], row["head"], row["condition"]
        cells = [_cell(row["figures"]["overall"], 100, 1), _cell(row["figures"]["auc"], 1, 3)]
        cells += [_cell(less.get((*where, "auc")), 1, 3), str(row["figures"]["auc"]["n"])]
        lines.append(f"| {' | '.join([*where, *cells])} |")
    yield "\n".join(lines)
    if told["left_out"]:
        lines = ["| arm | head | condition | value | balanced accuracy, % | n |", "|---|---|---|---|---|---|"]
        for row in told["left_out"]:
            cells = [row[key] for key in ("arm", "head", "condition", "value")]
            cells += [_cell(row["balanced_accuracy"], 100, 1), str(row["balanced_accuracy"]["n"])]
            lines.append(f"| {' | '.join(cells)} |")
        yield "\n".join(lines)
    if told["missing"]:
        yield "\n".join(f"- {line}" for line in told["missing"])


def _cell(figure: dict[str, Any] | None, factor: float, digits: int) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    text = f"{factor * figure['value']:.{digits}f}"
    if figure["low"] is not None:
        text += f" ({factor * figure['low']:.{digits}f}–{factor * figure['high']:.{digits}f})"
    return text + (f" ±{factor * figure['spread']:.{digits}f}" if figure.get("spread") is not None else "")


def columned(samples: list[Sample]) -> list[Sample]:
    """The rows with their family and domain, and of tuning rows the first `TUNED` of each source and generator."""
    kept: list[Sample] = []
    tuned: collections.Counter[tuple[str, str]] = collections.Counter()
    for sample in samples:
        if sample.split == "tune":
            tuned[sample.generator, sample.source] += 1
            if tuned[sample.generator, sample.source] > TUNED:
                continue
        groups = {"family": family(sample), "domain": domain(sample)}
        kept.append(dataclasses.replace(sample, groups=dict(sample.groups) | groups))
    return kept


def family(sample: Sample) -> str:
    name = sample.generator.lower()
    return next((family for family, words in FAMILIES.items() if any(word in name for word in words)), "")


def domain(sample: Sample) -> str:
    name = sample.generator or sample.source
    if name == "kurlyto/ai-or-not":
        return "places"
    return next((domain for domain, words in DOMAINS.items() if any(word in name for word in words)), "mixed")


if __name__ == "__main__":
    sys.exit(main())
