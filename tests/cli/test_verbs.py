"""What holds for every verb, those of `assay data` too."""

from __future__ import annotations

import pytest
import typer.main
from typer.testing import CliRunner

from assay import cli


def verbs() -> list[tuple[str, ...]]:
    """Every verb, as it is typed after `assay`."""
    top = typer.main.get_command(cli.app)
    context = typer.Context(top)
    found: list[tuple[str, ...]] = []
    for name in top.list_commands(context):  # type: ignore[attr-defined]
        verb = top.get_command(context, name)  # type: ignore[attr-defined]
        inner = verb.list_commands(context) if hasattr(verb, "list_commands") else []
        found += [(name, each) for each in inner] or [(name,)]
    return found


def test_there_are_verbs_of_both_kinds() -> None:
    assert {("scan",), ("train",), ("data", "read"), ("data", "shard"), ("data", "align")} <= set(verbs())


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_the_help_of_every_verb_has_an_example_and_every_verb_speaks_to_machines(verb: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.app, [*verb, "--help"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert f"\n    assay {' '.join(verb)}" in shown.stdout.partition("Examples:")[2]
    assert "--json" in shown.stdout
