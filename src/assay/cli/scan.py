"""`assay scan`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

import assay
from assay.cli.shell import INTERRUPTED, SOME_FAILED, Detector, Engine, Head, Quiet, Vote, amount, engine_of, say

if TYPE_CHECKING:
    from assay.judge.scan import Summary
    from assay.judge.sink import Sink

_FEW = 4
"""Up to this many results come without a progress bar."""

EXAMPLES = (
    "assay scan photo.jpg",
    "assay scan photos/ --out results.jsonl",
    "assay scan clip.mp4 --every 0.5",
    "find . -name '*.png' -print0 | assay scan -0 - --json",
    "assay scan s3://bucket/photos/ --on ray --out results",
)


def scan(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders, patterns; - reads paths from standard input.")
    ],
    detector: Detector = None,
    head: Head = None,
    vote: Vote = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out streams where they can hardly change the verdict: faster.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One CSV row a picture.")] = False,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write to a .jsonl or .csv file; run again after a stop, and it goes on."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="ray[://ADDRESS]",
            help="Judge on a cluster of Ray's, on all cores of this machine or at an address, into a folder --out.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --on: what holds pictures or paths in tables.  [default: image, path, …]"
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what --out holds and begin anew.")] = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="Paths on standard input end in NUL bytes.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.  [default: all cores]")] = None,
    engine: Engine = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Pictures judged together.")] = 8,
    max_bytes: Annotated[
        int | None, typer.Option(parser=amount(1024), help="Refuse larger files, e.g. 50M.  [default: 256M, 64G]")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(parser=amount(1000), help="Refuse larger pictures, e.g. 20M.  [default: 100M]")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Most frames judged of an animation or clip.  [default: 16, 15]")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="SECONDS",
            help="Judge one frame of a video every so many seconds, over its whole length.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Judge pictures and videos: real, fake or uncertain.

    Exit status: 0 all judged, 1 some could not be judged, 2 usage, 130 stopped by Ctrl-C.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv: choose one")
    if frames is not None and every is not None:
        raise typer.BadParameter("--frames and --every: choose one")
    if fresh and out is None:
        raise typer.BadParameter("--fresh begins a results file anew: it needs --out FILE")
    asked = "json" if as_json else "csv" if as_csv else None
    if on is not None and asked is not None:
        raise typer.BadParameter("--on writes Parquet; leave out --json and --csv")
    if column is not None and on is None:
        raise typer.BadParameter("--column goes with --on")
    address = None if on is None else _address(on, out)

    from assay.judge.sink import format_of

    format = asked if out is None or on is not None else format_of(out, asked)

    from assay.image.decode import Limits
    from assay.image.memory import keep
    from assay.judge import scan as scanning

    sizes = {"bytes": max_bytes, "video_bytes": max_bytes, "pixels": max_pixels}
    given = {**sizes, "frames": frames, "video_frames": frames}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    with_stdin = scanning.STDIN in paths
    if with_stdin and sys.stdin is None:
        raise typer.BadParameter("- reads paths from standard input, which is closed")
    if with_stdin and sys.stdin.isatty():
        say("reading paths from the keyboard, one a line; Ctrl-D ends")
    stdin = sys.stdin.buffer if with_stdin else None
    which: dict[str, Any] = {"head": head, "vote": vote, "skip": skip, "threads": threads, "engine": engine_of(engine)}
    how: dict[str, Any] = {"limits": limits, "batch": batch, "every": every}
    if on is not None and out is not None:
        tables = {"column": column, "fresh": fresh, "stdin": stdin, "null": null}
        stands = _on_cluster(detector, paths, out, quiet, address=address, **which, **how, **tables)
    else:
        keep()
        loaded = assay.load(detector, **which)
        inputs = scanning.expand(paths, stdin=stdin, null=null)

        def count() -> int | None:
            return None if with_stdin else sum(1 for _ in scanning.expand(paths))

        with _sink(out, format, loaded.sha256, fresh) as sink, _progress(quiet, out, asked, count) as (emit, advance):
            chosen = sink if sink is not None else _table(emit)
            stands = _run(lambda tell: scanning.scan(loaded, inputs, chosen, progress=tell, **how), advance, out)
            chosen.close()
    if not stands.done:
        say("no pictures found; name files, or folders that hold some")
    elif not quiet and (out or stands.done > 1):
        say(_told(stands, out), prefix="")
    if stands.failed or stands.failed_before:
        raise typer.Exit(SOME_FAILED)


def _run(
    work: Callable[[Callable[[Summary], None]], Summary], advance: Callable[[Summary], None], out: str | None
) -> Summary:
    """What a scan came to; Ctrl-C ends it with a word on what is kept."""
    from assay.judge.scan import Summary

    stands = Summary()

    def progress(summary: Summary) -> None:
        nonlocal stands
        stands = summary
        advance(summary)

    try:
        return work(progress)
    except KeyboardInterrupt as stop:
        kept = f"; {stands.done} results are in {out}: run the same command again to go on" if out else ""
        say(f"stopped after {stands.judged + stands.failed}{kept}")
        raise typer.Exit(INTERRUPTED) from stop


def _address(on: str, out: str | None) -> str | None:
    """Where the cluster is; None for one that is started here."""
    if out is None:
        raise typer.BadParameter("--on writes Parquet files: it needs --out FOLDER")
    if out.lower().endswith((".jsonl", ".json", ".ndjson", ".csv", ".parquet")):
        raise typer.BadParameter("--on writes a folder of Parquet files; give --out a folder's name")
    if on == "ray":
        return None
    if not on.startswith("ray://") or on == "ray://":
        raise typer.BadParameter(f"{on!r}: write --on ray, --on ray://HOST:PORT or --on ray://auto")
    return "auto" if on == "ray://auto" else on


def _on_cluster(detector: str | None, paths: list[str], out: str, quiet: bool, **options: Any) -> Summary:
    from assay.cluster import start

    start.require()

    from assay.cluster import scan as clustered
    from assay.cluster.plan import Plan

    inputs: int | None = None

    def planned(plan: Plan) -> None:
        nonlocal inputs
        inputs = plan.inputs

    with _progress(quiet, out, None, lambda: inputs) as (_, advance):
        return _run(
            lambda tell: clustered.scan(detector, paths, out, planned=planned, progress=tell, **options), advance, out
        )


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
