"""`assay embedding`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import assay
from assay.cli.shell import SOME_FAILED, Json, Quiet, say, seen, stages
from assay.errors import OutputError

if TYPE_CHECKING:
    from rich.table import Table

    from assay.measure.gather import Gathered
    from assay.measure.overview import Overview
    from assay.metrics import Interval

EXAMPLES = (
    "assay embedding assay-texture --data manifest.csv --out view",
    "assay embedding ./bundle --data manifest.csv --split test --most 500 --out view --json",
)

SUMMARY = "embedding.json"
_LISTED = 5

_WORDS = {
    "probe_auc": "linear probe, AUC",
    "probe_balanced_accuracy": "linear probe, balanced accuracy",
    "knn_balanced_accuracy": "5 nearest of other sources, balanced accuracy",
    "overlap": "overlap: rows among the other class",
    "silhouette_label": "silhouette of the label",
    "silhouette_generator": "silhouette of the generator, among fakes",
    "purity": "purity of the fakes' clusters by generator",
    "purity_by_chance": "  by chance",
    "mutual_information": "  mutual information, adjusted",
    "purity_at_generators": "purity with a cluster for each generator",
    "purity_at_generators_by_chance": "  by chance",
    "mutual_information_at_generators": "  mutual information, adjusted",
    "neighbours": "5 nearest fakes, of the same generator",
    "neighbours_by_chance": "  by chance",
}


def embedding(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help="A name or a bundle's folder.")],
    data: Annotated[
        str, typer.Option(metavar="MANIFEST", help="A table with path and label, or a folder that holds one.")
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where arrays, pictures and figures go.")],
    split: Annotated[str | None, typer.Option(help="Which rows.  [default: all]")] = None,
    most: Annotated[
        int, typer.Option(min=0, help="Rows in the t-SNE picture at most, half of each class; 0 for no picture.")
    ] = 2000,
    perplexity: Annotated[float, typer.Option(min=1, help="Of the t-SNE; at most a third of its rows is used.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of the t-SNE, its rows, clusters and the intervals.")] = 0,
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds of the intervals.")] = 1000,
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.  [default: all cores]")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look at a detector's embedding: do real and fake lie apart in it, and is there a cluster for each generator?

    Writes the embeddings of every picture (.npz), figures with intervals, and t-SNE pictures by label and by generator
    (SVG), for each stream. Rows the detector was made with are marked and counted, not refused: this is a view, not a
    test. Exit status: 0 all embedded, 1 some could not be, 2 usage.
    """
    from assay.cli import sources
    from assay.measure import gather as gathering
    from assay.measure import overview as overviews
    from assay.measure import tsne

    if most:
        tsne.ready()
    folder = _folder(out)
    rows = sources.rows(data, [] if split is None else [split])
    loaded = assay.load(detector, threads=threads)
    with stages(quiet) as progress:
        found = gathering.gather(loaded, rows, progress=progress)
    views = [
        overviews.overview(
            part,
            folder,
            title=f"{loaded.name} · {part.stream}",
            most=most,
            perplexity=perplexity,
            seed=seed,
            rounds=rounds,
        )
        for part in found.streams
    ]
    summary = {
        "detector": found.detector,
        "rows": {
            "n": found.n,
            "seen": found.seen,
            "failed": len(found.failures),
            "failures": [trouble.to_dict() for trouble in found.failures],
        },
        "seen_line": seen_line(found),
        "streams": {view.part.stream: view.to_dict() for view in views},
    }
    text = json.dumps(summary, allow_nan=False)
    overviews.write(folder / SUMMARY, text + "\n")
    if as_json:
        print(text)
    else:
        _show(found, views)
    if not quiet:
        say(f"arrays, pictures and {SUMMARY} are in {folder}", prefix="")
    if found.failures:
        say(f"{len(found.failures)} rows could not be embedded; they are listed in {SUMMARY}")
        raise typer.Exit(SOME_FAILED)


def seen_line(found: Gathered) -> str:
    """What the rows say of the detector, given how many of them it was made with."""
    if not found.seen:
        return f"none of the {found.n} rows was seen in making the detector"
    return (
        f"{found.seen} of {found.n} rows are SEEN (the detector was made with them): classes lie apart on such rows "
        "more than on new ones, so this is a view and no test; --split test looks at the others"
    )


def _folder(out: str) -> Path:
    """The folder to write to, made; a filled one only where it is an earlier view."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / SUMMARY).is_file():
            raise OutputError(f"{folder} holds other files; give --out a new folder or that of an earlier view")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); give --out another", kind="disk") from error
    return folder


def _show(found: Gathered, views: Sequence[Overview]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    of = found.detector
    console.print(Text(f"{of['name']} {of['version']} ({of['sha256'][:12]})", style="bold"))
    for view in views:
        figures = view.figures
        console.print()
        console.print(Text(_counts(view)))
        table = _table(figures.metrics)
        for name, generator in figures.generators.items():
            mark = " *" if generator.small else ""
            # Text, because a generator's name may hold what rich takes for markup.
            words = Text(seen(f"linear probe, AUC of {name} ({generator.n_fake} fakes){mark}"))
            table.add_row(words, *_cells(generator.auc))
        console.print(table)
        if any(generator.small for generator in figures.generators.values()):
            console.print(Text("* fewer than 20 fakes: means little"))
        console.print(Text(f"linear probe: {figures.fitted}"))
        console.print(Text(figures.sign, style="bold red" if figures.overlapping else ""))
        if isinstance(view.manifold, str):
            console.print(Text(f"one manifold or a cluster for each method: not measured: {view.manifold}"))
        else:
            # The table above holds the silhouette already.
            among = {name: found for name, found in view.manifold.metrics.items() if name not in figures.metrics}
            console.print(_table(among))
            console.print(Text(view.manifold.sign))
        if view.drawn:
            console.print(Text(f"t-SNE of {view.drawn} rows, perplexity {view.perplexity:.3g}, seed {view.seed}"))
    console.print()
    console.print(Text(seen_line(found), style="bold" if found.seen else ""))
    for trouble in found.failures[:_LISTED]:
        console.print(Text(seen(f"  {trouble.place}: {trouble.message}")), soft_wrap=True)


def _table(metrics: Mapping[str, Interval]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(("", "value", "95 % interval", "rows")):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for metric, interval in metrics.items():
        table.add_row(_WORDS[metric], *_cells(interval))
    return table


def _counts(view: Overview) -> str:
    """A stream and its rows, in one line."""
    part, figures = view.part, view.figures
    also = f" (also {', '.join(part.shared[1:])})" if part.shared[1:] else ""
    counts = [f"{len(part.samples)} rows: {figures.n_real} real, {figures.n_fake} fake"]
    counts += [f"{view.unlabelled} without a label"] if view.unlabelled else []
    counts += [f"{int(part.seen.sum())} (seen)"] if part.seen.any() else []
    counts += [f"{len(part.not_applicable)} not applicable"] if part.not_applicable else []
    return f"{part.stream}{also}: {part.vectors.shape[1]} numbers a picture; {'; '.join(counts)}"


def _cells(interval: Interval) -> tuple[str, str, str]:
    if math.isnan(interval.value):
        return "–", "–", str(interval.n)
    within = "–" if math.isnan(interval.low) else f"{interval.low:.3f} to {interval.high:.3f}"
    return f"{interval.value:.3f}", within, str(interval.n)
