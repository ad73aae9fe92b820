"""The command line: parse, call, print. What each verb does lives in the module it calls.

Results go to standard output and nothing else does; progress, notes and errors go to standard error. Modules are
imported inside the verbs, so that `--help` and a usage error are quick and `train` alone loads torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

import assay
from assay.errors import AssayError, InputError, MissingExtra

if TYPE_CHECKING:
    from assay.judge.scan import Summary
    from assay.judge.sink import Sink
    from assay.types import Sample

JUDGED, SOME_FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

_FEW = 4
"""Up to this many results come without a progress bar."""

_STEP = {"": 0, "k": 1, "m": 2, "g": 3}


class _Verbs(typer.core.TyperGroup):
    """Turns what assay raises on purpose into one line and an exit status, for every verb."""

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                # Here a disk that is full can still be told of; at the interpreter's exit it cannot.
                sys.stdout.flush()
        except AssayError as error:
            _say(str(error))
            failed = isinstance(error, InputError) or error.kind == "disk"
            raise typer.Exit(SOME_FAILED if failed else USAGE) from error
        except KeyboardInterrupt as stop:
            _say("stopped")
            raise typer.Exit(INTERRUPTED) from stop
        except OSError as error:
            # Anything else is a fault of ours and worth its traceback.
            if error.errno not in (errno.EPIPE, errno.ENOSPC):
                raise
            _abandon_stdout()
            if error.errno == errno.EPIPE:
                raise typer.Exit(PIPE_CLOSED) from error
            _say(f"cannot write the results ({error.strerror}); make room and run again")
            raise typer.Exit(SOME_FAILED) from error


def _examples(*lines: str) -> str:
    """The end of a help text. The mark keeps its lines from being filled into one."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


app = typer.Typer(
    name="assay",
    cls=_Verbs,
    help="Tells real pictures from fake ones, and says how sure it is.",
    epilog=_examples("assay scan photo.jpg", "assay scan --help"),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The console's entry point."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a character shows its escape instead of stopping the run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="assay")


def _amount(step: int) -> Callable[[str], int]:
    """A parser of amounts such as 500000, 20M, 1.5G; `step` is what k stands for."""

    def parse(text: str) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
        amount = round(float(found[1]) * step ** _STEP[found[2]]) if found else 0
        if amount < 1:
            raise typer.BadParameter(f"{text!r} is not an amount; write for example 500000 or 20M")
        return amount

    parse.__name__ = "AMOUNT"
    return parse


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"assay {assay.__version__}")
        raise typer.Exit


Detector = Annotated[
    str | None,
    typer.Option("--detector", "-d", metavar="NAME|FOLDER", help="Which detector.  [default: the one that ships]"),
]
Json = Annotated[bool, typer.Option("--json", help="For machines: JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on standard error.")]


@app.callback()
def _assay(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


@app.command(
    epilog=_examples(
        "assay scan photo.jpg",
        "assay scan photos/ --out results.jsonl",
        "find . -name '*.png' -print0 | assay scan -0 - --json",
    )
)
def scan(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders, patterns; - reads paths from standard input.")
    ],
    detector: Detector = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One CSV row a picture.")] = False,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write to a .jsonl or .csv file; run again after a stop, and it goes on."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what --out holds and begin anew.")] = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="Paths on standard input end in NUL bytes.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.  [default: all cores]")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures judged together.")] = 8,
    max_bytes: Annotated[
        int | None, typer.Option(parser=_amount(1024), help="Refuse larger files, e.g. 50M.  [default: 256M]")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(parser=_amount(1000), help="Refuse larger pictures, e.g. 20M.  [default: 100M]")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Most frames judged of an animation.  [default: 16]")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Judge pictures: real, fake or uncertain.

    Exit status: 0 all judged, 1 some could not be judged, 2 usage, 130 stopped by Ctrl-C.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv: choose one")
    if fresh and out is None:
        raise typer.BadParameter("--fresh begins a results file anew: it needs --out FILE")
    asked = "json" if as_json else "csv" if as_csv else None

    from assay.judge.sink import format_of

    format = asked if out is None else format_of(out, asked)

    from assay.image.decode import Limits
    from assay.judge import scan as scanning

    given = {"bytes": max_bytes, "pixels": max_pixels, "frames": frames}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    with_stdin = scanning.STDIN in paths
    if with_stdin and sys.stdin is None:
        raise typer.BadParameter("- reads paths from standard input, which is closed")
    if with_stdin and sys.stdin.isatty():
        _say("reading paths from the keyboard, one a line; Ctrl-D ends")
    loaded = assay.load(detector, threads=threads)
    inputs = scanning.expand(paths, stdin=sys.stdin.buffer if with_stdin else None, null=null)
    stands = scanning.Summary()

    def count() -> int | None:
        return None if with_stdin else sum(1 for _ in scanning.expand(paths))

    with _sink(out, format, loaded.sha256, fresh) as sink, _progress(quiet, out, asked, count) as (emit, advance):
        chosen = sink if sink is not None else _table(emit)

        def progress(summary: Summary) -> None:
            nonlocal stands
            stands = summary
            advance(summary)

        try:
            stands = scanning.scan(loaded, inputs, chosen, progress=progress, limits=limits, batch=batch)
        except KeyboardInterrupt as stop:
            kept = f"; {stands.done} results are in {out}: run the same command again to go on" if out else ""
            _say(f"stopped after {stands.judged + stands.failed}{kept}")
            raise typer.Exit(INTERRUPTED) from stop
        chosen.close()
    if not stands.done:
        _say("no pictures found; name files, or folders that hold some")
    elif not quiet and (out or stands.done > 1):
        _say(_told(stands, out), prefix="")
    if stands.failed or stands.failed_before:
        raise typer.Exit(SOME_FAILED)


@contextlib.contextmanager
def _sink(out: str | None, format: str | None, detector: str, fresh: bool) -> Iterator[Sink | None]:
    """Where records go; None where a table is wanted instead."""
    from assay.judge import sink as sinks

    if out is not None and format is not None:
        with sinks.Results(out, format, detector, fresh=fresh) as results:
            yield results
    elif format is not None:
        yield sinks.Stream(sys.stdout.buffer, format)
    else:
        yield None


Row = list[tuple[str, str]]


def _table(emit: Callable[[Row], None] | None) -> Sink:
    from assay.judge.sink import Table

    return Table(sys.stdout, emit)


@contextlib.contextmanager
def _progress(
    quiet: bool, out: str | None, asked: str | None, count: Callable[[], int | None]
) -> Iterator[tuple[Callable[[Row], None] | None, Callable[[Summary], None]]]:
    """What prints a row on a terminal (None: print it plainly), and what shows how far the scan is.

    Where rows and bar share a terminal they share a console, which keeps the bar below the rows.
    """
    rows = sys.stdout.isatty() and out is None and asked is None
    bar = sys.stderr.isatty() and not quiet and (rows or out is not None or not sys.stdout.isatty())
    if not (rows or bar):
        yield None, lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=not rows, highlight=False)

    def emit(cells: Row) -> None:
        # Text, not a string: rich would read markup in a file's name.
        console.print(Text.assemble(*cells), soft_wrap=True)

    if not bar:
        yield emit, lambda _: None
        return

    import threading

    from rich import progress as riches

    shown = riches.Progress(
        riches.TextColumn("judging"),
        riches.BarColumn(),
        riches.MofNCompleteColumn(),
        riches.TextColumn("{task.fields[rate]}"),
        riches.TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = shown.add_task("judging", total=None, rate="")

    def total() -> None:
        with contextlib.suppress(Exception):
            shown.update(task, total=count())

    def advance(summary: Summary) -> None:
        if summary.judged + summary.failed <= _FEW:
            return
        if not shown.live.is_started:
            shown.start()
            # Counting a large tree takes a while, and the bar can do without.
            threading.Thread(target=total, daemon=True).start()
        rate = (summary.judged + summary.failed) / max(summary.seconds, 1e-9)
        failed = f"  {summary.failed} failed" if summary.failed else ""
        shown.update(task, completed=summary.done, rate=f"{rate:.1f}/s{failed}")

    try:
        yield emit if rows else None, advance
    finally:
        if shown.live.is_started:
            shown.stop()


def _told(summary: Summary, out: str | None) -> str:
    verdicts = ", ".join(f"{count} {name}" for name, count in summary.verdicts.items())
    parts = [f"{summary.judged} judged: {verdicts}" if summary.judged else "0 judged"]
    if summary.failed:
        parts.append(f"{summary.failed} could not be judged")
    before = summary.judged_before + summary.failed_before
    if before:
        failed = f", {summary.failed_before} of them not judged" if summary.failed_before else ""
        parts.append(f"{before} were in {out} before{failed}")
    return "; ".join([*parts, f"{summary.seconds:.1f} s"])


@app.command(epilog=_examples("assay detectors", "assay detectors NAME", "assay detectors --json"))
def detectors(
    detector: Annotated[
        str | None, typer.Argument(metavar="[NAME|FOLDER]", help="One detector, with its whole card.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What is installed, and what each detector claims."""
    from assay.errors import BundleError
    from assay.judge import about, bundle

    folders = bundle.installed() if detector is None else [bundle.find(detector)]
    broken = False
    for number, folder in enumerate(folders):
        try:
            read = bundle.read(folder)
        except BundleError as error:
            if detector is not None:
                raise
            broken = True
            _say(str(error))
            continue
        if as_json:
            print(json.dumps(about.described(read)))
            continue
        text = about.short(read) if detector is None else about.whole(read)
        print(("\n" if number else "") + text)
    if not folders:
        _say(f"no detector is installed; name a bundle's folder, or a folder of bundles in {bundle.SEARCH}")
    if broken:
        raise typer.Exit(USAGE)


def _seen(text: str) -> str:
    from assay.judge.sink import printable

    return printable(text)


@app.command(
    epilog=_examples(
        "assay evaluate NAME --data manifest.csv",
        "assay evaluate ./bundle --data manifest.csv --by camera --robustness --json",
    )
)
def evaluate(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help="A name or a bundle's folder.")],
    data: Annotated[str, typer.Option(metavar="MANIFEST", help="A .csv with the columns path and label.")],
    split: Annotated[
        str | None, typer.Option(help="Which rows.  [default: test where the manifest has splits, else all]")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="Break the figures down by a column; may be repeated.")
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Measure again after compression, resizing and blur.")
    ] = False,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="MANIFEST|SPLIT", help="Rows to fit the controls on.  [default: the tested rows, cross-fitted]"
        ),
    ] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Measure on rows the detector was made with too; that is no test.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds of the intervals.")] = 1000,
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.  [default: all cores]")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a detector on labelled pictures that it has never met.

    Rows that it was trained or tuned on are refused. Exit status: 0 all judged, 1 some could not be judged, 2 usage.
    """
    from assay.data import manifest
    from assay.measure import evaluate as measuring

    rows = manifest.read(data)
    splits = sorted({sample.split for sample in rows if sample.split})
    if split is None and splits:
        split = "test"
    chosen = rows if split is None else _of_split(rows, split, data)
    control_fit = None
    if train is not None:
        named = train.endswith((".csv", ".csv.gz"))
        control_fit = manifest.read(train) if named else _of_split(rows, train, data)
    loaded = assay.load(detector, threads=threads)
    with _stages(quiet) as progress:
        found = measuring.evaluate(
            loaded,
            chosen,
            by=tuple(by or ()),
            allow_seen=allow_seen,
            control_fit=control_fit,
            rounds=rounds,
            progress=progress,
        )
        if robustness:
            from assay.measure import robustness as hardening

            under = hardening.robustness(loaded, chosen, rounds=rounds, progress=progress)
            found = dataclasses.replace(found, robustness=under)
    if as_json:
        print(json.dumps(found.to_dict(), allow_nan=False))
    else:
        from rich.console import Console

        from assay.measure import report

        report.show(found, Console(highlight=False))
    if found.rows.failures:
        _say(f"{len(found.rows.failures)} rows could not be judged; they are listed under rows.failures with --json")
        raise typer.Exit(SOME_FAILED)


def _of_split(rows: list[Sample], split: str, data: str) -> list[Sample]:
    from assay.data import manifest
    from assay.errors import ManifestError, unknown

    chosen = manifest.select(rows, split=split)
    if not chosen:
        raise ManifestError(f"{data}: {unknown('split', split, {sample.split for sample in rows} - {''})}")
    return chosen


@contextlib.contextmanager
def _stages(quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar for each stage of a measurement, on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as riches
    from rich.console import Console

    with riches.Progress(
        riches.TextColumn("{task.description}"),
        riches.BarColumn(),
        riches.MofNCompleteColumn(),
        riches.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as shown:
        tasks: dict[str, riches.TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done, total=total)

        yield progress


@app.command(
    epilog=_examples(
        "assay train code24 --data manifest.csv --out my-detector --minutes 60",
        "assay train code24 --data manifest.csv --out my-detector --set descend.pairs=64",
    )
)
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe, or one of its variants as RECIPE:VARIANT.")
    ],
    data: Annotated[str, typer.Option(metavar="MANIFEST", help="A .csv with the columns path, label and split.")],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where the bundle and the checkpoints go.")],
    size: Annotated[str, typer.Option(metavar="small|paper", help="For one small machine, or the paper's.")] = "small",
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop training after so long and finish.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on from the checkpoints in FOLDER, or begin anew.")
    ] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe; may be repeated."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that prepare batches.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="What to train on.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    name: Annotated[str, typer.Option(help="Of the detector; the recipe's where none is given.")] = "",
    precision: Annotated[str, typer.Option(metavar="fp32|fp16", help="How the bundle stores weights.")] = "fp16",
    cache: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where decoded tiles are kept, for several runs to share.")
    ] = None,
) -> None:
    """Train a recipe on labelled pictures and write the detector as a bundle."""
    if size not in ("small", "paper"):
        raise typer.BadParameter(f"{size!r} is neither small nor paper", param_hint="--size")
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{device!r} is none of auto, cpu, cuda", param_hint="--device")
    if precision not in ("fp32", "fp16"):
        raise typer.BadParameter(f"{precision!r} is neither fp32 nor fp16", param_hint="--precision")

    from assay.data import manifest
    from assay.learn.recipe import find

    chosen = find(recipe, "paper" if size == "paper" else "small")
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{setting!r}: write KEY=VALUE, for example descend.pairs=64", param_hint="--set")
        chosen = chosen.with_field(key, value)
    samples = manifest.read(data)
    given: dict[str, Any] = {"name": name, "precision": precision}
    given |= {} if workers is None else {"workers": workers}
    given |= {} if cache is None else {"cache": Path(cache)}
    try:
        _trainer()(chosen, samples, Path(out), minutes=minutes, resume=resume, device=device, seed=seed, **given)
    except ModuleNotFoundError as error:
        if (error.name or "assay").partition(".")[0] == "assay":
            raise
        raise MissingExtra("training", "train") from error


def _trainer() -> Callable[..., Any]:
    from assay.learn.train import train

    return train


def _say(message: str, prefix: str = "assay: ") -> None:
    """Something that is not a result. Lines of a list stay lines; whatever could steer the terminal is escaped."""
    with contextlib.suppress(BrokenPipeError):
        print(prefix + "\n".join(_seen(line) for line in message.split("\n")), file=sys.stderr, flush=True)


def _abandon_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of failing again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
