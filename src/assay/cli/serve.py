"""`assay serve`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.shell import Engine, Trust, amount, certificates, engine_of, say
from assay.errors import MissingExtra

EXAMPLES = (
    "assay serve",
    "assay serve --port 9000 --keep-hours 1 --data jobs/",
    "assay serve --keys keys.txt --new-key alice",
    "assay serve --host 0.0.0.0 --keys keys.txt --allow-host pictures.example.org",
)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; the default is reached from this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    detector: Annotated[
        list[str] | None,
        typer.Option(
            "--detector",
            "-d",
            metavar="NAME|FOLDER",
            help="Again for more; the first judges unless asked otherwise.  [default: the one that ships]",
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="API keys, hashed; without it whoever reaches the server may ask."),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option("--new-key", metavar="NAME", help="Print a new key, add its hash to --keys, and end."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Jobs and uploads.  [default: ~/.local/state/assay]")
    ] = None,
    keep_hours: Annotated[float, typer.Option(min=0, help="How long a job stays after its end.")] = 24,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name it may be called by; again for more."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", metavar="URL", help="A page elsewhere that may send pictures; again for more."),
    ] = None,
    allow_fetch: Annotated[
        bool, typer.Option("--allow-fetch", help="Get pictures from public addresses that a client names.")
    ] = False,
    trust: Trust = None,
    max_bytes: Annotated[
        int | None, typer.Option(parser=amount(1024), help="Refuse larger pictures, e.g. 50M.  [default: 64M]")
    ] = None,
    max_video_bytes: Annotated[
        int | None, typer.Option(parser=amount(1024), help="Refuse larger videos.  [default: 2G]")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(parser=amount(1000), help="Refuse larger pictures, e.g. 20M.  [default: 100M]")
    ] = None,
    queue: Annotated[int | None, typer.Option(min=1, help="Uploads that may wait.  [default: 64]")] = None,
    rate: Annotated[
        int | None, typer.Option(min=0, help="Requests a minute of one client; 0 for any.  [default: 600]")
    ] = None,
    decoders: Annotated[int | None, typer.Option(min=1, help="Processes that decode.  [default: 2]")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.  [default: all cores]")] = None,
    engine: Engine = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output once it is ready: url, pid, detectors.")
    ] = False,
) -> None:
    """Judge pictures over HTTP, with a web page.

    Ctrl-C finishes what was accepted; jobs that are not done go on at the next start. Exit status: 0 stopped, 2 usage.
    """
    try:
        from assay.image.memory import keep
        from assay.serve import guard, running
        from assay.serve.settings import Settings
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("assay"):
            raise
        raise MissingExtra("serving", "serve") from error

    if new_key is not None:
        if keys is None:
            raise typer.BadParameter("--new-key adds to a file of keys: it needs --keys FILE")
        try:
            key = guard.new_key(Path(keys), new_key)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--new-key") from error
        print(json.dumps({"name": new_key, "key": key}) if as_json else key)
        say(f"the key of {new_key}; it is shown this once, and {keys} holds its hash alone")
        return
    given: dict[str, Any] = {
        "pictures": max_bytes,
        "videos": max_video_bytes,
        "pixels": max_pixels,
        "queue": queue,
        "queue_client": None if queue is None else max(1, queue // 2),
        "rate": rate,
        "decoders": decoders,
        "threads": threads,
        "engine": engine_of(engine),
    }
    keep()
    settings = Settings(
        data=_state() if data is None else Path(data),
        host=host,
        port=port,
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        fetch=allow_fetch,
        detectors=tuple(detector or ()),
        trusted=certificates(trust),
        keys=None if keys is None else Path(keys),
        keep=keep_hours * 3600,
        **{name: value for name, value in given.items() if value is not None},
    )
    if settings.keys is None and not settings.loopback:
        say(
            f"warning: {host} is reached from other machines, and whoever reaches it may use it; "
            "make a key: assay serve --keys FILE --new-key NAME"
        )

    def ready(url: str, detectors: list[str]) -> None:
        if as_json:
            print(json.dumps({"url": url, "pid": os.getpid(), "detectors": detectors}), flush=True)
        else:
            say(f"serving {', '.join(detectors)} at {url}; Ctrl-C ends")

    running.run(settings, ready)


def _state() -> Path:
    """Where programs keep what outlives them, by the XDG base directories."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "assay"
