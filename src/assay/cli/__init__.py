"""The command line: parse, call, print. What each verb does lives in the module it calls.

Results go to standard output and nothing else does; progress, notes and errors go to standard error. Modules are
imported inside the verbs, so that `--help` and a usage error are quick and `train`, `distill`, `study` and `import`
alone load torch.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import assay
from assay.cli import (
    data,
    detectors,
    distill,
    embedding,
    evaluate,
    explain,
    export,
    importing,
    provenance,
    report,
    scan,
    serve,
    study,
    train,
)
from assay.cli.shell import Verbs, examples

app = typer.Typer(
    name="assay",
    cls=Verbs,
    help="Tells real pictures from fake ones, and says how sure it is.",
    epilog=examples("assay scan photo.jpg", "assay scan --help"),
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


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"assay {assay.__version__}")
        raise typer.Exit


@app.callback()
def _assay(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


for _verb in (scan, explain, provenance, report, serve, detectors, evaluate, embedding, train, distill, export, study):
    _name = _verb.__name__.rpartition(".")[2]
    app.command(_name, epilog=examples(*_verb.EXAMPLES))(getattr(_verb, _name))
# A word of Python's, so its function and module cannot be called so.
app.command("import", epilog=examples(*importing.EXAMPLES))(importing.import_)
app.add_typer(data.app, name="data")
