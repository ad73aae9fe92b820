"""What all verbs share: exit statuses, errors turned into one line, options, progress, words to standard error."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import typer.core

from assay.errors import AssayError, InputError
from assay.types import EngineName

JUDGED, SOME_FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

_STEP = {"": 0, "k": 1, "m": 2, "g": 3}


class Verbs(typer.core.TyperGroup):
    """Turns what assay raises on purpose into one line and an exit status, for every verb."""

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                # Here a disk that is full can still be told of; at the interpreter's exit it cannot.
                sys.stdout.flush()
        except AssayError as error:
            say(str(error))
            failed = isinstance(error, InputError) or error.kind == "disk"
            raise typer.Exit(SOME_FAILED if failed else USAGE) from error
        except KeyboardInterrupt as stop:
            say("stopped")
            raise typer.Exit(INTERRUPTED) from stop
        except OSError as error:
            # Anything else is a fault of ours and worth its traceback.
            if error.errno not in (errno.EPIPE, errno.ENOSPC):
                raise
            abandon_stdout()
            if error.errno == errno.EPIPE:
                raise typer.Exit(PIPE_CLOSED) from error
            say(f"cannot write the results ({error.strerror}); make room and run again")
            raise typer.Exit(SOME_FAILED) from error


def examples(*lines: str) -> str:
    """The end of a help text. The mark keeps its lines from being filled into one."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def amount(step: int) -> Callable[[str], int]:
    """A parser of amounts such as 500000, 20M, 1.5G; `step` is what k stands for."""

    def parse(text: str) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
        amount = round(float(found[1]) * step ** _STEP[found[2]]) if found else 0
        if amount < 1:
            raise typer.BadParameter(f"{text!r} is not an amount; write for example 500000 or 20M")
        return amount

    parse.__name__ = "AMOUNT"
    return parse


Detector = Annotated[
    str | None,
    typer.Option("--detector", "-d", metavar="NAME|FOLDER", help="Which detector.  [default: the one that ships]"),
]
Head = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which of its heads judges: linear, nearest, …  [default: its first]"),
]
Vote = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="How its streams vote: modified_majority, majority, mean, plain_mean, levels, tenths, best, or one "
        "stream's name.  [default: its own rule]",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="auto|onnxruntime|openvino|openvino-bf16",
        help="What runs the networks; auto: what detectors --probe found, else onnxruntime.",
    ),
]
Trust = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Certificates (PEM) of authorities whose signatures are to be called valid."),
]
Json = Annotated[bool, typer.Option("--json", help="For machines: JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary on standard error.")]


def engine_of(name: str) -> EngineName:
    """The runtime that is asked for."""
    for known in get_args(EngineName):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise typer.BadParameter(f"{name!r} is none of {', '.join(get_args(EngineName))}", param_hint="--engine")


@contextlib.contextmanager
def kept(out: str) -> Iterator[None]:
    """Says, where Ctrl-C stops work that goes on from its folder, that nothing of it is lost."""
    try:
        yield
    except KeyboardInterrupt as stop:
        say(f"stopped; what is done is kept in {out}: run the same command again to go on")
        raise typer.Exit(INTERRUPTED) from stop


@contextlib.contextmanager
def stages(quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
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


def settings_of(given: list[str] | None, example: str) -> dict[str, str]:
    """KEY=VALUE options by key."""
    settings = {}
    for setting in given or ():
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{setting!r}: write KEY=VALUE, for example {example}", param_hint="--set")
        settings[key] = value
    return settings


def certificates(file: str | None) -> str:
    """What --trust names, read before any work."""
    if file is None:
        return ""
    from assay.image.provenance.c2pa import holds_certificates

    try:
        text = Path(file).read_text("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file} cannot be read ({error})", param_hint="--trust") from error
    if not holds_certificates(text):
        raise typer.BadParameter(f"{file} holds no certificates, or damaged ones; give PEM", param_hint="--trust")
    return text


def seen(text: str) -> str:
    from assay.judge.sink import printable

    return printable(text)


def say(message: str, prefix: str = "assay: ") -> None:
    """Something that is not a result. Lines of a list stay lines; whatever could steer the terminal is escaped."""
    with contextlib.suppress(BrokenPipeError):
        print(prefix + "\n".join(seen(line) for line in message.split("\n")), file=sys.stderr, flush=True)


def abandon_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of failing again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
