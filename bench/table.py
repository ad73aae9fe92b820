"""How fast it is, in one table: every bench that has a ratio to show, one after the other on this machine.

    python bench/table.py                                # about 25 minutes on two quiet cores
    python bench/table.py --quick                        # about 4: shows that all of it runs, claims nothing
    python bench/table.py --only scan growth --out FILE.md
    python bench/table.py --data manifest.csv --ferretnet FOLDER --ladeda FOLDER --network ./bundle

- *scan*, *network*: `bench/speed.py` on the detector that ships, and on a ViT-Tiny with random weights or `--network`.
- *growth*: `bench/growth.py`; `--full` adds 100,000 files.
- *precision*: `bench/engines.py` on both; only with `--data` do its flips and AUC say anything.
- *cluster*: `bench/cluster.py`, a cluster in this machine with one worker and with two, and what kills do to it.
- *training*: `bench/training.py`.

Each bench is a process of its own, and its notes go to standard error. One that fails is a row that says so, and the
exit status is then 1; an aim that is missed is not a failure. Prints Markdown. A ratio is the median over rounds, each
taken within its round, and the spread its lowest and highest; an aim is met by the median.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.errors import AssayError
from assay.judge import bundle
from assay.measure.block import Block, markdown
from speed import FLAT, Measured, machine

COLUMNS = ("section", "what", "figure", "against", "ratio", "spread", "n", "aim", "met")

EAGER, LIMIT, GROWTH = 5.0, 0.8, 1 + FLAT
"""Aims: at least so many times the rate of eager torch, at least such a share of what limits a scan, at most so many
times the cost of the smallest size."""

PATIENCE = 3600.0
"""Seconds after which a bench is stopped, and has failed."""

_LAST_WORDS = 5.0

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        what: is measured.
        figure: of it, with its unit, or why there is none.
        against: what it is compared with.
        ratio: to that, as `speed.spread` gives it; None where nothing is compared.
        spread: of the figure, shown where there is no ratio.
        share: whether the ratio is shown in per cent.
        n: how much was measured.
        least, most: the aim for the ratio.
    """

    what: str
    figure: str = ""
    against: str = ""
    ratio: Mapping[str, float] | None = None
    spread: str = ""
    share: bool = False
    n: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the aim is; None where there is none, or nothing to hold against it."""
        if self.ratio is None or (self.least is None and self.most is None):
            return None
        value = self.ratio["value"]
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def cells(self, section: str) -> tuple[str, ...]:
        ratio, spread, aim = "", self.spread, ""
        if self.ratio is not None:
            value, low, high = (self._told(self.ratio[key]) for key in ("value", "low", "high"))
            ratio, spread = value, f"{low} to {high}"
        for sign, bound in (("≥", self.least), ("≤", self.most)):
            if bound is not None:
                aim = f"{sign} {self._told(bound)}"
        met = {None: "", True: "met", False: "missed"}[self.met]
        return (section, self.what, self.figure, self.against, ratio, spread, self.n, aim, met)

    def _told(self, value: float) -> str:
        return f"{_short(100 * value)} %" if self.share else f"{_short(value)} ×"


def figure(spread: Mapping[str, float], unit: str, scale: float = 1) -> str:
    """The median, with its unit."""
    return f"{_short(scale * spread['value'])} {unit}".strip()


def between(spread: Mapping[str, float], scale: float = 1) -> str:
    """The lowest and the highest."""
    return f"{_short(scale * spread['low'])} to {_short(scale * spread['high'])}"


def counted(rounds: int) -> str:
    return f"{rounds} round{'s' * (rounds != 1)}"


def _short(value: float) -> str:
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# ── what each bench gives ────────────────────────────────────────────────────────────────────────────────────────────


def of_speed(found: Measured) -> list[Row]:
    """`bench/speed.py`."""
    rate, name = found["speed"], found["detector"]["name"]
    n = f"{rate['files']} files, {counted(rate['rounds'])}"
    engine = " ".join(str(part) for part in (found["engine"]["runtime"], _threads(found["engine"])) if part)
    pace = rate["pictures_per_second"]
    rows = [Row(f"scan, {name}, {engine}", figure(pace, "pictures/s"), spread=between(pace), n=n)]
    if rate["eager"] is None:
        rows.append(Row(f"scan, {name}", rate["note"], "eager torch"))
    else:
        batched = rate["batched"]
        how = "compiled" if batched["compiled"] else f"not compiled ({batched['note']})"
        for ratio, key, against, least in (
            ("times_eager", "eager", "eager torch, one picture at a time", EAGER),
            ("times_batched", "batched", f"torch in batches of {batched['batch']}, {how}", None),
        ):
            at = figure(rate[key]["pictures_per_second"], "pictures/s")
            rows.append(
                Row(f"scan, {name}", figure(pace, "pictures/s"), f"{against}: {at}", rate[ratio], n=n, least=least)
            )
    for one in rate["published"]:
        if "times" not in one:
            rows.append(Row(f"scan, {name}", one["note"], one["name"]))
            continue
        how = f"in batches of {one['batch']}" if one["batch"] > 1 else "one picture at a time"
        against = f"{one['name'].removesuffix(', batches')}, {how}: {figure(one['pictures_per_second'], 'pictures/s')}"
        rows.append(Row(f"scan, {name}", figure(pace, "pictures/s"), against, one["times"], n=n))
    if "bf16" not in rate:
        rows.append(Row(f"scan, {name}, bfloat16", "nothing here multiplies in bfloat16"))
    else:
        rough = rate["bf16"]["pictures_per_second"]
        against = "eager torch, one picture at a time" if "times_eager" in rate["bf16"] else ""
        ratio = rate["bf16"].get("times_eager")
        rows.append(
            Row(f"scan, {name}, openvino-bf16", figure(rough, "pictures/s"), against, ratio, between(rough), n=n)
        )
    if rate["eager"] is not None:
        matrix = f"the matrix product in float32: {figure(rate['product_gflops'], 'GFLOP/s')}"
        for what, ratio in (("scan", "share_of_product"), ("networks alone", "network_share_of_product")):
            macs = f"{_short(rate['macs_per_picture'] / 1e6)} M products a picture"
            rows.append(Row(f"{what}, {name}", macs, matrix, rate[ratio], share=True, n=n))
    decode = figure(rate["decode"]["pictures_per_second"], "pictures/s")
    pillow = figure(rate["pillow"]["pictures_per_second"], "pictures/s")
    network = figure(rate["network"]["pictures_per_second"], "pictures/s")
    rows.append(
        Row(
            "decoding and cutting alone",
            decode,
            f"Pillow alone, all of a picture: {pillow}",
            rate["decode_times_pillow"],
            n=n,
        )
    )
    slower = f"networks alone: {network}" if rate["slower"] == "network" else f"decoding alone: {decode}"
    both = f"decoding ({decode}), then networks ({network}), on the same cores"
    for against, ratio in ((f"the slower by itself, {slower}", "share_of_slower"), (both, "share_of_both")):
        row = Row(f"scan, {name}", figure(pace, "pictures/s"), against, rate[ratio], share=True, n=n, least=LIMIT)
        rows.append(row)
    if "start" in found:
        first = found["start"]
        against = f"Python and the libraries alone: {figure(first['libraries']['seconds'], 's')}"
        told = figure(first["seconds"], "s")
        rows.append(Row(f"first verdict, {name}", told, against, first["times_libraries"], n=counted(rate["rounds"])))
    return rows


def _threads(engine: Measured) -> str:
    if "threads" not in engine:
        return ""
    return f"({engine['threads']} threads, {engine['crops']} crops, {_short(engine['times_usual'])} × the usual way)"


def of_growth(found: Measured) -> list[Row]:
    """`bench/growth.py`."""
    files, pixels = found["files"], found["pixels"]
    first, rows = files["sizes"][0], []
    for size in files["sizes"]:
        n = f"{counted(files['rounds'])} of {size['files']:,}"
        seconds, mib = size["seconds_per_file"], size["mib"]
        what = f"{size['files']:,} files of {files['side']} px"
        pace, held = figure(seconds, "ms a file", 1000), figure(mib, "MiB at most")
        if size is first:
            rows.append(Row(what, pace, spread=between(seconds, 1000), n=n))
            rows.append(Row(what, held, spread=between(mib), n=n))
            continue
        against = f"{first['files']:,} files"
        rows.append(Row(what, pace, against, size["times_first"], n=n, most=GROWTH))
        rows.append(Row(what, held, against, size["mib_times_first"], n=n, most=GROWTH))
    base: dict[str, Measured] = {}
    for size in pixels["sizes"]:
        n = f"{counted(pixels['rounds'])} of {size['pictures']}"
        before = base.setdefault(size["format"], size)
        what = f"{size['format']} of {size['megapixels']:g} MP"
        paces = (figure(size[f"seconds_per_{of}"], f"ms a {of}", 1000) for of in ("picture", "megapixel"))
        told = ", ".join((*paces, figure(size["mib"], "MiB at most")))
        if size is before:
            rows.append(Row(what, told, spread=between(size["seconds_per_picture"], 1000), n=n))
        else:
            against = f"a megapixel of {before['megapixels']:g} MP"
            rows.append(Row(what, told, against, size["per_megapixel_times_first"], n=n))
    return rows


def of_precision(found: Measured) -> list[Row]:
    """`bench/engines.py`. What becomes of verdicts is left out where they mean nothing."""
    rows = []
    for each in found["bundles"]:
        name = each["detector"]["name"]
        tells = found["data"] == "manifest" and not name.startswith("made-up")
        usual = each["ways"][0]
        against = f"fp32, onnxruntime: {figure(usual['pictures_per_second'], 'pictures/s')}"
        n = f"{each['pictures']} pictures, {counted(each['rounds'])}"
        for way in each["ways"][1:]:
            told = [figure(way["pictures_per_second"], "pictures/s")]
            if tells:
                told.append(f"{way['flips']} flips of {each['rows']}")
                if way["auc_change"]["value"] is not None:
                    change, low, high = (f"{way['auc_change'][key]:+.4f}" for key in ("value", "low", "high"))
                    told.append(f"AUC {change} ({low} to {high})")
            else:
                told.append("flips and AUC: no data")
            what = f"networks of {name}, {way['precision']}, {way['engine']}"
            rows.append(Row(what, ", ".join(told), against, way["times_fp32"], n=n))
        rows += [Row(f"networks of {name}, {what}", f"not: {why}", against) for what, why in each["missing"].items()]
        if not any("bf16" in f"{way['engine']}" for way in each["ways"]) and "bf16" not in " ".join(each["missing"]):
            rows.append(Row(f"networks of {name}, bfloat16", "nothing here multiplies in bfloat16", against))
    return rows


def of_cluster(found: Measured) -> list[Row]:
    """`bench/cluster.py`. A ratio is a worker's share of the rate, over that of an ordinary scan with one thread."""
    ways = {name: way for name, way in found["speed"].items() if isinstance(way, dict) and "rate" in way}
    if not any("efficiency" in way for way in ways.values()):
        raise KeyError("efficiency")
    rows = []
    for name, way in ways.items():
        told = f"{_short(way['rate'])} pictures/s, whole {_short(way['seconds'])} s"
        n = str(way.get("n", ""))
        if "efficiency" not in way:
            rows.append(Row(name, told, n=n))
            continue
        ratio = {"value": way["efficiency"], "low": way["lowest"], "high": way["highest"]}
        rows.append(Row(name, told, "an ordinary scan with one thread, by worker", ratio, n=n))
    kills = found["kills"]
    what = ", ".join(f"{kills[name]} {name}" for name in ("workers", "nodes", "drivers"))
    faults = ", ".join(f"{kills[name]} {name}" for name in ("lost", "doubled", "differing"))
    rows.append(Row(f"killed: {what}", f"inputs: {faults}", "an ordinary scan", n=f"{kills['inputs']} inputs"))
    return rows


def of_training(found: Measured) -> list[Row]:
    """`bench/training.py`."""
    n = f"{counted(found['rounds'])}, {found['pictures_a_step']} pictures a step"
    figures = {
        name: {"value": one["middle"], "low": one["least"], "high": one["most"]}
        for name, one in found["figures"].items()
    }
    name = f"training {found['recipe']} ({found['size']}, {found['network']})"
    pace = figures["pictures_a_second_with_loaders"]
    told = figure(pace, "pictures/s")
    return [
        Row(name, told, spread=between(pace), n=n),
        Row(f"{name}: waiting for loaders", told, "its time", figures["share_waiting_for_loaders"], share=True, n=n),
        Row(f"{name}: a step", "", "the matrix product", figures["share_of_matrix_rate"], share=True, n=n),
    ]


# ── running them ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Bench:
    """A bench and how it becomes rows.

    Args:
        script: in this folder.
        options: from what this command was asked for.
        rows: from the JSON object that it prints.
    """

    script: str
    options: Callable[[argparse.Namespace], list[str]]
    rows: Callable[[Measured], list[Row]]


def _speed(asked: argparse.Namespace, which: list[str]) -> list[str]:
    sizes = ["--files", "16", "--repeat", "1"] if asked.quick else ["--files", "96", "--repeat", "5"]
    given = [(f"--{name}", getattr(asked, name)) for name in ("ferretnet", "ladeda")]
    return [*which, *sizes, *(part for name, place in given if place for part in (name, str(place)))]


def _of_scan(asked: argparse.Namespace) -> list[str]:
    named = ["--detector", asked.detector] if asked.detector else []
    return _speed(asked, [*named, "--only", "speed", "--only", "start"])


def _of_network(asked: argparse.Namespace) -> list[str]:
    return _speed(asked, [*_network(asked, "--detector"), "--only", "speed"])


def _of_growth(asked: argparse.Namespace) -> list[str]:
    named = ["--detector", asked.detector] if asked.detector else []
    return [*named, *["--quick"] * asked.quick, *["--full"] * asked.full]


def _of_precision(asked: argparse.Namespace) -> list[str]:
    few = ["--rounds", "1", "--rows", "12", "--pictures", "4"] if asked.quick else ["--rows", "400", "--pictures", "32"]
    data = ["--data", str(asked.data)] if asked.data else []
    which = ["--precision", "fp32", "--precision", "int8"]
    return [str(bundle.find(asked.detector)), *_network(asked), *data, *which, *few]


def _of_cluster(asked: argparse.Namespace) -> list[str]:
    few = ["--quick"] if asked.quick else ["--kills", "12", "--drivers", "3"]
    return ["--json", "--only", "speed", "kills", *few]


def _of_training(asked: argparse.Namespace) -> list[str]:
    # A batch smaller than the recipe's, whose steps would take minutes a round on two cores.
    few = ["--quick", "--set", "descend.pairs=4"]
    return few if asked.quick else ["--rounds", "3", "--steps", "4", "--set", "descend.pairs=12"]


def _network(asked: argparse.Namespace, option: str = "") -> list[str]:
    return [*filter(None, [option]), asked.network] if asked.network else ["--made-up", "vit"]


BENCHES: dict[str, Bench] = {
    "scan": Bench("speed.py", _of_scan, of_speed),
    "network": Bench("speed.py", _of_network, of_speed),
    "growth": Bench("growth.py", _of_growth, of_growth),
    "precision": Bench("engines.py", _of_precision, of_precision),
    "cluster": Bench("cluster.py", _of_cluster, of_cluster),
    "training": Bench("training.py", _of_training, of_training),
}


class Failed(Exception):
    """A bench came to nothing; the message says why."""


def ran(command: Sequence[str], patience: float = PATIENCE) -> Measured:
    """The JSON object on the last line that a command prints; what it says on standard error is passed on.

    Raises:
        Failed: its status was not 0, it took too long, or it printed no JSON object.
    """
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        said = collections.deque([""], maxlen=1)

        def pass_on() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                print(line, end="", file=sys.stderr, flush=True)
                said.extend(filter(None, [line.strip()]))

        reader = threading.Thread(target=pass_on, daemon=True)
        reader.start()
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            raise Failed(f"it was stopped after {patience:.0f} s") from None
        finally:
            _end(process)
            # What it left running may hold on to the pipe.
            reader.join(_LAST_WORDS)
        if status:
            raise Failed(f"status {status}: {said[-1]}")
        out.seek(0)
        lines = [line for line in out.read().splitlines() if line.strip()]
    try:
        told = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise Failed("it printed no JSON") from None
    if not isinstance(told, dict):
        raise Failed("what it printed is no JSON object")
    return told


def _end(process: subprocess.Popen[str]) -> None:
    """A process, and what it started, where they are still there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rows_of(name: str, asked: argparse.Namespace) -> tuple[list[Row], Measured | None]:
    """A bench's rows, and all that it gave; one row and None where it failed."""
    bench = BENCHES[name]
    script = HERE / bench.script
    try:
        found = ran([sys.executable, str(script), *bench.options(asked)], asked.patience)
        try:
            return bench.rows(found), found
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise Failed(f"its JSON is not what was expected: {type(error).__name__}: {error}") from error
    except (AssayError, Failed) as error:
        return [Row(f"bench/{bench.script}", f"failed: {error}")], None


def machine_line(here: Measured, commit: str) -> str:
    """What all of it was measured on."""
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    load = f"load {here['load']} before it began, " if here["load"] is not None else ""
    return f"{here['cpu']}, {here['cores']} cores, {load}Python {here['python']}, {versions}, commit {commit}."


def commit() -> str:
    """Of this checkout, with a plus sign where files differ from it; "unknown" where that cannot be told."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    told = []
    for what in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        ended = subprocess.run([git, "-C", str(HERE), *what], capture_output=True, text=True)
        if ended.returncode:
            return "unknown"
        told.append(ended.stdout.strip())
    return told[0] + "+" * bool(told[1])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES), help="of these benches")
    parser.add_argument("--quick", action="store_true", help="few of everything, one round: claims nothing")
    parser.add_argument("--full", action="store_true", help="100,000 files too")
    parser.add_argument("--data", type=Path, metavar="MANIFEST", help="for what precision does to verdicts")
    parser.add_argument("--detector", metavar="NAME|FOLDER", help="in the place of the one that ships")
    parser.add_argument("--network", metavar="NAME|FOLDER", help="in the place of the made-up ViT-Tiny")
    parser.add_argument("--ferretnet", type=Path, metavar="FOLDER", help="a checkout, as bench/public.py takes it")
    parser.add_argument("--ladeda", type=Path, metavar="FOLDER", help="another")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that the benches gave there")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS", help="for one bench")
    asked = parser.parse_args(arguments)
    if asked.quick and asked.full:
        parser.error("--quick and --full: choose one")
    here, begun = machine(), time.monotonic()
    cells: list[tuple[str, ...]] = []
    given: dict[str, Any] = {}
    for name in (name for name in BENCHES if name in asked.only):
        print(f"── {name}", file=sys.stderr, flush=True)
        rows, given[name] = rows_of(name, asked)
        cells += [row.cells(name) for row in rows]
    note = machine_line(here, commit())
    if asked.quick:
        note += " Measured quickly, which claims nothing."
    table = markdown(Block("How fast it is", COLUMNS, cells, note), 2)
    print(table)
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes", file=sys.stderr)
    if asked.out:
        asked.out.write_text(table + "\n", encoding="utf-8")
    if asked.json:
        asked.json.write_text(json.dumps({"machine": here, "benches": given}, indent=1) + "\n", encoding="utf-8")
    return 1 if None in given.values() else 0


if __name__ == "__main__":
    sys.exit(main())
