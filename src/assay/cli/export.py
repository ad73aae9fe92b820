"""`assay export`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assay.cli.making import Seed
from assay.cli.shell import SOME_FAILED, Json, say, seen
from assay.errors import MissingExtra

if TYPE_CHECKING:
    from assay.learn.variant import Attempt, Made

EXAMPLES = (
    "assay export NAME --precision int8 --data manifest.csv --out smaller",
    "assay export ./bundle --precision fp16 --data manifest.csv --out smaller --bound 0.005",
)


def export(
    detector: Annotated[str, typer.Argument(metavar="BUNDLE", help="A detector's name, or a bundle's folder.")],
    precision: Annotated[
        str,
        typer.Option(metavar="fp32|fp16|int8", help="How weights are stored; int8: what layers compute in as well."),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="MANIFEST",
            help="Both judge its tuning rows; int8 takes ranges from its training rows. Test rows are not read.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where the variant goes, if it holds the bound.")],
    bound: Annotated[
        float | None, typer.Option(min=0, max=1, help="The most that a score may move.  [default: 0.02]")
    ] = None,
    calibrate: Annotated[
        int | None, typer.Option(min=1, help="Training pictures that int8 takes ranges from.  [default: 64]")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the variant.  [default: NAME-PRECISION]")] = "",
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode.")] = 2,
    rounds: Annotated[int, typer.Option(min=0, help="Bootstrap rounds of the interval.")] = 1000,
    as_json: Json = False,
) -> None:
    """Make a smaller or faster variant of a detector, if it says the same.

    Heads and thresholds stay the original's. int8 keeps layers in float where scores move too far. Exit status: 0
    written, 1 the bound was exceeded and nothing was written, 2 usage.
    """
    wanted = _precision(precision)

    from assay.cli import sources
    from assay.judge import bundle

    try:
        from assay.learn import variant as making
    except ModuleNotFoundError as error:
        if (error.name or "assay").partition(".")[0] == "assay":
            raise
        raise MissingExtra("exporting", "export") from error

    read = bundle.read(bundle.find(detector))
    bound = making.BOUND if bound is None else bound
    given = {} if calibrate is None else {"calibrate": calibrate}
    made = making.variant(
        read,
        sources.rows(data),
        Path(out),
        wanted,
        bound=bound,
        name=name,
        seed=seed,
        workers=workers,
        rounds=rounds,
        **given,
    )
    if as_json:
        told = {"bundle": None if made.folder is None else str(made.folder), "bound": bound, "failed": made.failed}
        print(json.dumps(told | {"attempts": [attempt.to_dict() for attempt in made.attempts]}, allow_nan=False))
    else:
        _show(made, bound)
    if made.failed:
        say(f"{len(made.failed)} tuning rows could not be judged and count for nothing:\n" + "\n".join(made.failed[:5]))
    if made.folder is None:
        say(f"nothing was written: scores move by more than {bound:g}")
        raise typer.Exit(SOME_FAILED)
    say(f"next: assay evaluate {made.folder} --data {data}", prefix="")


def _precision(asked: str) -> Literal["fp32", "fp16", "int8"]:
    if asked == "bf16":
        raise typer.BadParameter(
            "bf16 is what a processor computes in, and needs no other bundle: scan --engine openvino-bf16",
            param_hint="--precision",
        )
    if asked not in ("fp32", "fp16", "int8"):
        raise typer.BadParameter(f"{asked!r} is none of fp32, fp16 and int8", param_hint="--precision")
    return "fp32" if asked == "fp32" else "fp16" if asked == "fp16" else "int8"


def _show(made: Made, bound: float) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = made.attempts[0].change.rows
    console.print(Text(f"beside the original, on {rows} tuning rows; a score may move by {bound:g}", style="bold"))
    table = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(("", "moves by", "mean", "flips", "AUC (95 %)", "MB", "")):
        table.add_column(column, justify="left" if number in (0, 6) else "right", overflow="fold")
    for attempt in made.attempts:
        table.add_row(*_cells(attempt, attempt is made.taken, bound))
    console.print(table)
    for attempt in made.attempts:
        if attempt is made.taken:
            for trunk, kept in attempt.kept.items():
                which = f": {', '.join(map(str, kept))}" if kept else ""
                words = f"{seen(trunk)}: {len(kept)} of {attempt.layers[trunk]} layers stay in float{which}"
                console.print(Text(words))


def _cells(attempt: Attempt, taken: bool, bound: float) -> Sequence[str]:
    change, beyond = attempt.change, [way for way in attempt.beyond(bound) if way]
    note = "written" if taken else ""
    if beyond:
        note += f"{' without' if taken else 'too far too:'} {', '.join(beyond)}"
    auc = change.auc
    return (
        seen(attempt.what),
        f"{change.largest:.4f}",
        f"{change.mean:.4f}",
        str(change.flips),
        f"{auc.value:+.4f} ({auc.low:+.4f} to {auc.high:+.4f})",
        f"{attempt.bytes / 1e6:.2f}",
        note,
    )
