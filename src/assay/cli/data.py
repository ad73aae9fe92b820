"""`assay data`: a data set as it was published, read, fetched, checked, split, derived from and sharded."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.main

from assay.cli import sources
from assay.cli.making import making
from assay.cli.shell import SOME_FAILED, Json, Quiet, Verbs, amount, examples, kept, say, seen, settings_of, stages
from assay.errors import ManifestError

if TYPE_CHECKING:
    from assay.data.table import Table
    from assay.types import Label

Manifest = Annotated[
    str, typer.Argument(metavar="MANIFEST", help="A table with the columns path and label, or a folder that holds one.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
_SHOWN = 20
"""Problems that are printed."""

Workers = Annotated[int | None, typer.Option(min=0, help="Processes that work beside this one.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a parameter; may be repeated.")
]
Skip = Annotated[bool, typer.Option("--skip", help="Leave out rows that cannot be read, instead of an error.")]
Split = Annotated[
    list[str] | None, typer.Option("--split", metavar="NAME", help="Only rows of this split; may be repeated.")
]


class _DataVerbs(Verbs):
    """Adds a verb for each derivation; they are looked up only when somebody asks for `assay data`."""

    def list_commands(self, ctx: Any) -> list[str]:
        from assay.data.derivations import derivations

        return [*super().list_commands(ctx), *derivations()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from assay.data.derivations import derivations

        found = super().get_command(ctx, cmd_name)
        return _derivation(cmd_name) if found is None and cmd_name in derivations() else found


app = typer.Typer(
    cls=_DataVerbs,
    help="Read, check, split, align, degrade and shard data sets.",
    epilog=examples(
        "assay data layouts",
        "assay data read celebdf /data/Celeb-DF-v2 --out celebdf.parquet",
        "assay data check celebdf.parquet",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog=examples("assay data layouts", "assay data layouts faceforensics"))
def layouts(
    layout: Annotated[
        str | None, typer.Argument(metavar="[LAYOUT]", help="One layout, with the tree it reads.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The published data sets that can be read as they are."""
    from assay.data import layouts as published

    found = published.layouts().values() if layout is None else [published.find(layout)]
    for each in found:
        if as_json:
            told = {"name": each.name, "summary": each.summary, "shape": each.shape, "source": each.source}
            print(json.dumps(told | {"options": dict(each.options)}))
        elif layout is None:
            print(f"{each.name:<15} {each.summary}")
        else:
            print(f"{each.name}: {each.summary}\n\n{each.shape.rstrip()}\n\nread from: {each.source}")
            for name, what in each.options.items():
                print(f"  --set {name}=…  {what}")


@app.command(
    epilog=examples(
        "assay data read imagefolder photos/ --out manifest.csv",
        "assay data read faceforensics /data/FF++ --set compression=c23 --out ff.parquet",
    )
)
def read(
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="Of `assay data layouts`.")],
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Where the data set was unpacked.")],
    out: Annotated[str, typer.Option(metavar="MANIFEST", help="A .csv, .csv.gz or .parquet file to write.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the layout; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a published data set into a manifest, and say what was found and what was left out."""
    from assay.data import layouts as published
    from assay.data import manifest

    manifest.ready(out)
    found = published.read(layout, root, **settings_of(settings, "tune=0.1"))
    manifest.write(out, found.samples)
    if as_json:
        left = [
            {"reason": reason, "count": count, "example": found.examples[reason]}
            for reason, count in found.left_out.most_common()
        ]
        told = {"manifest": out, "rows": len(found.samples), "counts": _counts(found.samples)}
        print(json.dumps(told | {"left_out": left}))
        return
    _tell_counts(found.samples)
    for reason, count in found.left_out.most_common():
        print(f"left out {count}: {seen(reason)}, e.g. {seen(found.examples[reason])}")
    say(f"wrote {out}; next: assay data check {out}", prefix="")


@app.command(
    epilog=examples(
        "assay data read d3 D3/ --out d3.csv --set urls=urls.csv",
        "assay data fetch urls.csv --out reals/",
        "assay data read d3 D3/ --out d3.csv --set reals=reals/",
    )
)
def fetch(
    urls: Annotated[str, typer.Argument(metavar="URLS", help="A CSV with the columns id and url.")],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where pictures and their record go; run again to go on.")],
    again: Annotated[bool, typer.Option("--again", help="Ask once more for what failed and may come yet.")] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Go to addresses that are not public, and through a proxy.")
    ] = False,
    ignore_robots: Annotated[
        bool,
        typer.Option("--ignore-robots", help="Disregard robots.txt and X-Robots-Tag, where you have the right to."),
    ] = False,
    largest: Annotated[
        int | None, typer.Option(parser=amount(1024), help="Bytes a picture may have, e.g. 8M.  [default: 32M]")
    ] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Connections, each to another host.  [default: 8]")] = None,
    pause: Annotated[
        float | None, typer.Option(min=0, help="Seconds between requests to one host.  [default: 0.5]")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch pictures from the web into a folder, named by id: D3's reals, of which the hub has only the URLs.

    One connection a host, with pauses; robots.txt and X-Robots-Tag (noai, noimageai, noindex, noimageindex) are obeyed.
    Only whole pictures that decode are kept. FOLDER/fetched.jsonl says what became of each id.

    Exit status: 0 every picture is there, 1 some are not, 2 usage. Ctrl-C leaves what is done for the next run.
    """
    from assay.data import fetch as fetching

    given: dict[str, Any] = {"largest": largest, "at_once": at_once, "pause": pause}
    with kept(out), stages(quiet) as progress:
        found = fetching.fetch(
            urls,
            out,
            again=again,
            private=allow_private,
            robots=not ignore_robots,
            progress=_one(progress, "fetching"),
            **{name: value for name, value in given.items() if value is not None},
        )
    record = str(found.folder / fetching.RECORD)
    if as_json:
        told = {"folder": str(found.folder), "record": record, "listed": found.listed, "asked": found.asked}
        print(json.dumps(told | {"bytes": found.bytes, "counts": dict(found.counts.most_common())}))
    else:
        print(f"{found.counts['fetched']} of {found.listed} pictures in {out}; {found.asked} asked for in this run")
        for kind, count in found.counts.most_common():
            if kind != "fetched":
                print(f"{count} not: {fetching.KINDS.get(kind, seen(kind))} ({seen(kind)})")
    if not found.whole:
        if found.counts.keys() - fetching.GONE - fetching.FINAL - {"fetched"}:
            say(f"{record} says why; to ask once more for what may come yet, add --again")
        raise typer.Exit(SOME_FAILED)


@app.command(epilog=examples("assay data check manifest.csv", "assay data check manifest.parquet --table --json"))
def check(
    data: Manifest,
    table: Annotated[bool, typer.Option("--table", help="Look at the table alone and open no picture.")] = False,
    near: Annotated[
        int | None, typer.Option(min=0, max=63, help="Bits within which two pictures look the same.")
    ] = None,
    bound: Annotated[float | None, typer.Option(min=0.5, max=1, help="AUC above which a shortcut is an error.")] = None,
    related: Annotated[
        list[str] | None,
        typer.Option("--related", metavar="COL", help="A column that must not cross splits; may be repeated."),
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="Problems of a kind that are printed.")] = 10,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say whether training or measuring on it would be honest: leaks, duplicates, labels, and shortcuts.

    Exit status: 0 nothing that makes it unfit, 1 not fit as it stands, 2 usage.
    """
    from rich.console import Console

    from assay.data import manifest
    from assay.measure import check as checking
    from assay.measure.check import report as check_report

    rows = manifest.read(data, check=False, strict=False)
    given: dict[str, Any] = {"near": near, "bound": bound, "related": related, "workers": workers}
    with stages(quiet) as progress:
        chosen = {name: value for name, value in given.items() if value is not None}
        report = checking.check(rows, look=not table, progress=progress, **chosen)
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
    else:
        check_report.show(report, Console(highlight=False), most)
    if not report.honest:
        raise typer.Exit(SOME_FAILED)


@app.command(
    epilog=examples(
        "assay data split manifest.csv --by subject --out split.csv",
        "assay data split manifest.csv --leave-out generator=sdxl --out unseen.csv",
    )
)
def split(
    data: Manifest,
    out: Annotated[str, typer.Option(metavar="MANIFEST", help="Where the same rows with new splits go.")],
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="COL", help="What must stand in one split: subject, video, source, generator, …"),
    ] = None,
    leave_out: Annotated[
        str | None, typer.Option("--leave-out", metavar="COL=VALUE", help="Test on what training never meets.")
    ] = None,
    shares: Annotated[
        str, typer.Option(metavar="TRAIN,TUNE,TEST", help="Of the keys, not of the rows.")
    ] = "0.8,0.1,0.1",
    together: Annotated[
        bool, typer.Option("--together", help="Keep rows linked by any chain of shared keys in one split.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Give every row a split that stays the same when rows are added."""
    from assay.data import manifest
    from assay.data import split as splitting

    if bool(by) == bool(leave_out):
        raise typer.BadParameter("say either --by COL or --leave-out COL=VALUE")
    manifest.ready(out)
    given = _shares(shares)
    rows = manifest.read(data, check=False, strict=False)
    if rows.problems:
        say(f"{len(rows.problems)} faults in {data}; assay data check lists them")
    if leave_out:
        column, equals, value = leave_out.partition("=")
        if not (column and equals):
            raise typer.BadParameter(f"{leave_out!r}: write COL=VALUE, for example generator=sdxl")
        found = splitting.leave_out(rows, given, seed, **{column: value})
    else:
        found = splitting.assign(rows, by or [], given, seed, together=together)
    manifest.write(out, found.table)
    if as_json:
        told = {"manifest": out, "rows": len(found.table), "counts": _counts(found.table), "keyed": found.keyed}
        print(json.dumps(told | {"left_out": len(found.left_out), "across": found.across}))
        return
    _tell_counts(found.table)
    for name, count in found.keyed.items():
        print(f"{count} rows by {name}")
    if len(found.left_out):
        print(f"{len(found.left_out)} rows stand in no split: each would show something on both sides")
    for name, count in found.across.items():
        print(f"{count} values of {name} still stand in more than one split; add --by {name}")
    say(f"wrote {out}; next: assay data check {out}", prefix="")


@app.command(
    epilog=examples("assay data shard manifest.csv --out shards/", "assay train code24 --data shards/ --out run")
)
def shard(
    data: Manifest,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where shards and their index go; run again to go on.")],
    largest: Annotated[
        int | None, typer.Option(parser=amount(1024), help="Bytes a shard may have, e.g. 1G.  [default: 512M]")
    ] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Samples a shard may have.  [default: 10000]")] = None,
    only: Split = None,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that read files.")] = None,
    skip: Skip = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write WebDataset shards, checksummed; training reads them from disk or from an address.

    Exit status: 0 all rows written, 1 some could not be read, 2 usage. Ctrl-C leaves what is done for the next run.
    """
    from assay.data import manifest, shards
    from assay.data.index import INDEX

    given = {"largest": largest, "most": most, "workers": workers}
    rows = sources.rows(data, only or ())
    with kept(out), stages(quiet) as progress:
        try:
            index = shards.write(
                rows,
                out,
                seed=seed,
                skip=skip,
                progress=_one(progress, "writing shards"),
                **{name: value for name, value in given.items() if value is not None},
            )
        except ManifestError as error:
            _refused(error, {"manifest": None, "index": None}, as_json)
    told = str(Path(out) / manifest.NAME)
    if as_json:
        parts: Counter[tuple[str, Any]] = Counter()
        for each in index.shards:
            parts[each.split, each.label] += each.samples
        counts = [{"split": s, "label": _word(label), "rows": number} for (s, label), number in parts.items()]
        found = {"manifest": told, "index": str(Path(out) / INDEX), "rows": index.samples, "counts": counts}
        found |= {"shards": len(index.shards), "bytes": sum(each.bytes for each in index.shards)}
        print(json.dumps(found | {"left_out": [left.model_dump() for left in index.left_out], "problems": []}))
    else:
        print(f"{index.samples} samples in {len(index.shards)} shards under {out}")
        if index.left_out:
            print(f"{len(index.left_out)} rows left out; {out}/{INDEX} names them")
    if index.left_out:
        raise typer.Exit(SOME_FAILED)


@app.command(
    epilog=examples(
        "assay data makers manifest.csv --out makers/",
        "assay data makers manifest.csv --out makers/ --minutes-each 10 --only nearest-x4",
    )
)
def makers(
    data: Manifest,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where makers go, each in its own; run again to go on.")],
    minutes: Annotated[
        float | None, typer.Option("--minutes-each", min=0.01, help="How long each is trained.  [default: 2]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps-each", min=1, help="Steps instead, the same however busy the machine is.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of which maker; may be repeated.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train small generators on the real training pictures of a manifest, for `assay data remake`.

    Each doubles its size in another way and leaves another trace. A maker that is there is kept.
    """
    from assay.data import manifest
    from assay.types import Label

    minutes = 2.0 if minutes is None and steps is None else minutes
    reals = manifest.select(sources.rows(data), split="train", label=Label.REAL)
    with making("makers", out, resume=True), stages(quiet) as progress:
        from assay.learn import remake as remaking

        told = None if progress is None else lambda name, step, steps, loss: progress(name, step, steps)
        recipes = {name: remaking.recipe(name) for name in only or remaking.MAKERS}
        found = remaking.train_makers(
            list(reals), out, minutes_each=minutes, steps_each=steps, seed=seed, recipes=recipes, on_step=told
        )
    for name, folder in found.items():
        record = json.loads((folder / "maker.json").read_text(encoding="utf-8"))["record"]
        if as_json:
            print(json.dumps({"name": name, "folder": str(folder), "record": record}))
        else:
            print(f"{name:<16} {record['psnr']:.1f} dB on pictures held out, after {record['steps']} steps")
    say(f"next: assay data remake {data} --makers {out} --out remade/", prefix="")


@app.command(epilog=examples("assay data remake manifest.csv --makers makers/ --out remade/ --share 0.5"))
def remake(
    data: Manifest,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where files and manifest go; run again to go on.")],
    makers: Annotated[str, typer.Option(metavar="FOLDER", help="Of `assay data makers`, or that of one maker.")],
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the real training pictures.  [default: 0.5]")
    ] = None,
    match: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="How far a copy's spectrum is taken to its original's.  [default: 0.5]"),
    ] = None,
    side: Annotated[int | None, typer.Option(min=32, help="Longest side of a copy in px.  [default: 512]")] = None,
    only: Split = None,
    seed: Seed = 0,
    workers: Workers = None,
    skip: Skip = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """All rows, and of real training pictures fake copies that makers decoded: same subject, format and compression."""
    given: dict[str, Any] = {"share": share, "match": match, "side": side}
    with making("remaking pictures", out, resume=False):
        from assay.learn.remake import Remake, makers_in

        chosen = Remake(makers_in(makers), **{name: value for name, value in given.items() if value is not None})
        _derive(chosen, data, out, only, seed, workers, skip, as_json, quiet)


def _derivation(name: str) -> Any:
    """The verb of a derivation."""
    from assay.data import derivations

    kind = derivations.find(name)
    # Typer reads annotations as text in this module's names, so the verb is made for each derivation anew.
    verbs = typer.Typer(
        add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )

    @verbs.command(name, help=_help(kind), epilog=examples(f"assay data {name} manifest.csv --out {name}/"))
    def derive(
        data: Manifest,
        out: Annotated[str, typer.Option(metavar="FOLDER", help="Where files and manifest go; run again to go on.")],
        settings: Settings = None,
        only: Split = None,
        seed: Seed = 0,
        workers: Workers = None,
        skip: Skip = False,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        from assay.settings import replaced

        chosen = kind()
        for key, value in settings_of(settings, _example(chosen)).items():
            chosen = replaced(chosen, key, value)
        _derive(chosen.beside(data), data, out, only, seed, workers, skip, as_json, quiet)

    return typer.main.get_command(verbs)


def _derive(
    chosen: Any,
    data: str,
    out: str,
    only: list[str] | None,
    seed: int,
    workers: int | None,
    skip: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make a derived set and say what came of it."""
    from assay.data.derive import derive

    count = os.cpu_count() or 1 if workers is None else workers
    rows = sources.rows(data, only or ())
    with kept(out), stages(quiet) as progress:
        try:
            found = derive(
                rows,
                out,
                chosen,
                seed=seed,
                workers=count,
                progress=_one(progress, chosen.name),
                skip=skip,
            )
        except ManifestError as error:
            _refused(error, {"manifest": None}, as_json)
    if as_json:
        told = {"manifest": str(found.manifest), "rows": len(found.table), "made": found.made}
        told |= {"tally": chosen.tally(found.table)}
        left = [{"reason": reason, "count": number} for reason, number in found.left_out.most_common()]
        print(json.dumps(told | {"counts": _counts(found.table), "left_out": left, "problems": found.problems}))
    else:
        print(f"{found.made} files made, {len(found.table)} rows in {found.manifest}")
        for what, number in chosen.tally(found.table).items():
            print(f"{number} {what}")
        for reason, number in found.left_out.most_common():
            print(f"left out {number}: {seen(reason)}")
    if found.problems:
        failed = "1 row" if len(found.problems) == 1 else f"{len(found.problems)} rows"
        say(f"{failed} failed and left out:{_listed(found.problems)}")
        raise typer.Exit(SOME_FAILED)


def _help(kind: Any) -> str:
    """What a derivation does, and the parameters that --set reaches."""
    summary = f"{kind.summary[0].upper()}{kind.summary[1:]}."
    keys = "\n".join(f"  {key}={json.dumps(value)}" for key, value in _flat(kind().settings()).items())
    return f"{summary}\n\n\b\nParameters, for --set:\n{keys}"


def _example(derivation: Any) -> str:
    key, value = next(iter(_flat(derivation.settings()).items()))
    return f"{key}={json.dumps(value)}"


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) and value else {f"{above}{name}": value}
    return flat


def _refused(error: ManifestError, told: dict[str, Any], as_json: bool) -> NoReturn:
    """Rows that failed are no fault of the command: they are listed, and the exit status says so."""
    if not error.problems:
        raise error
    if as_json:
        print(json.dumps(told | {"problems": error.problems}))
    say(str(error) if error.problems[0] in str(error) else f"{error}{_listed(error.problems)}")
    raise typer.Exit(SOME_FAILED) from error


def _listed(problems: Sequence[str]) -> str:
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "".join(f"\n  {problem}" for problem in problems[:_SHOWN]) + more


def _one(progress: Callable[[str, int, int], None] | None, stage: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(stage, done, total)


def _shares(text: str) -> dict[str, float]:
    from assay.data.split import SPLITS

    try:
        parts = [float(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if len(parts) != len(SPLITS):
        raise typer.BadParameter(f"{text!r}: write three shares, for example 0.8,0.1,0.1", param_hint="--shares")
    return dict(zip(SPLITS, parts, strict=True))


def _part(part: Any) -> dict[str, Any]:
    return {"split": part.split, "label": _word(part.label), "rows": part.rows}


def _counts(rows: Table) -> list[dict[str, Any]]:
    from assay.data import split

    return [_part(part) for part in split.summary(rows)]


def _word(label: Label | None) -> str | None:
    return None if label is None else label.name.lower()


def _tell_counts(rows: Table) -> None:
    from assay.data import split

    for part in split.summary(rows):
        label = "of unknown class" if part.label is None else part.label.name.lower()
        print(f"{part.split or 'no split':<8} {part.rows:>9} {label}")
