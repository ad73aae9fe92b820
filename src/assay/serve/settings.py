"""What `assay serve` is told, and every limit that it keeps."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from pathlib import Path

from assay.image.decode import Limits
from assay.judge.engine import Device
from assay.types import EngineName


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Of one server.

    Args:
        data: folder of jobs and uploads, for this server alone; made where it is not there.
        host, port: where it listens. The default address is reached from this machine only.
        hosts: further names that a request may call the server by, beside addresses and "localhost". A page elsewhere
            could give its own name this machine's address, and would be the same origin for a browser.
        origins: pages elsewhere that may send pictures and read the answers, as "https://example.org". None by default.
        fetch: whether it gets pictures from addresses that a client names (`assay.serve.visit`). Not by default.
        detectors: names of installed detectors, or folders; the first is the default one. None named: the one that
            ships.
        threads: cores for the networks; None for all physical ones.
        device: "auto", "cpu" or "cuda".
        engine: what runs the networks, as `assay.load` takes it.
        trusted: certificates in PEM whose signatures are called valid (`assay.image.provenance`).
        keys: file of hashed API keys (`assay.serve.guard`); None: whoever reaches the server may use it.

        pictures: bytes of a picture. 64 MiB: an uncompressed 20-megapixel picture.
        videos: bytes of a video in a job. 2 GiB: 20 minutes of a camera's 1920 x 1080.
        in_memory: bytes up to which an upload that is judged at once never reaches the disk. 1 MiB; `queue` of them.
        files: of one job. 10,000.
        job_bytes: of one job's uploads. 8 GiB.
        job_uploads: jobs whose uploads come in at a time. 8; of one client half of them.
        spool_bytes: of all uploads that wait or are kept. 32 GiB. From there on, and from `backlog` on, jobs are
            refused; `job_uploads` that come in at the time may go beyond.
        backlog: inputs of jobs that wait. 100,000.
        pixels: of one frame. 100 million (`assay.image.decode.Limits`).
        explained: pixels of a picture that is explained. 30 million: it takes about 25 bytes for each, in the process
            that owns everything else.
        frames: of a clip or animation, where `every` does not say otherwise. 15, as GenConViT judges a clip.
        clip_frames: of a clip, where `every` says how many. 2,000: over half an hour at one a second.

        queue: uploads that are judged at once or wait for it, beside jobs. 64.
        queue_client: of these, by one client. 32.
        fetches: pictures that are fetched at a time; of one client half of them. 4.
        explanations: pictures that are explained or wait for it. 4; one at a time, for seconds to minutes.
        crops: judged together in one run of the networks, more or less: a picture's are never parted. 32.
        linger: seconds that the first picture of a run waits for others. 0.004: a tenth of what one takes.
        at_once: inputs of jobs in work. 8.
        tries: of an input whose judging was cut short, by a kill, before it is given up. 3.
        streams: listeners to events. 64; of one client `streams_client`, 8.
        rate: uploads that are judged at once, explanations, and jobs that a client may begin, a minute; `burst` of them
            at once. 600 and 60; a rate of 0 is none.

        decoders: processes that decode. 2.
        memory: bytes of data that one of them may hold. 3 GiB: a picture of 100 megapixels unpacked, in two forms.
        decode: seconds that one picture, or the next part of a clip, may take to decode. 20.
        clip: seconds that a whole clip may take. 1,800.

        stall: seconds without a byte of an upload. 20.
        upload: seconds of the upload of one picture. 120; of a job's `job_upload`, 7,200.
        visit: seconds until what is fetched is there. 30.
        answer: seconds from an upload to its verdict. 120; to its explanation `explain`, 600.
        stop: seconds that a stop waits for what was accepted. 60.
        ping: seconds of silence after which a stream of events shows that it is alive. 15.
        keep: seconds that a job stays after its end. 24 h.
        sweep: seconds between two looks for what is to be deleted. 300.

    Raises:
        ValueError: a limit below its least.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    fetch: bool = False
    detectors: tuple[str, ...] = ()
    threads: int | None = None
    device: Device = "auto"
    engine: EngineName = "auto"
    trusted: str = ""
    keys: Path | None = None

    pictures: int = 64 << 20
    videos: int = 2 << 30
    in_memory: int = 1 << 20
    files: int = 10_000
    job_bytes: int = 8 << 30
    job_uploads: int = 8
    spool_bytes: int = 32 << 30
    backlog: int = 100_000
    pixels: int = 100_000_000
    explained: int = 30_000_000
    frames: int = 15
    clip_frames: int = 2_000

    queue: int = 64
    queue_client: int = 32
    fetches: int = 4
    explanations: int = 4
    crops: int = 32
    linger: float = 0.004
    at_once: int = 8
    tries: int = 3
    streams: int = 64
    streams_client: int = 8
    rate: int = 600
    burst: int = 60

    decoders: int = 2
    memory: int = 3 << 30
    decode: float = 20
    clip: float = 1_800

    stall: float = 20
    upload: float = 120
    job_upload: float = 7_200
    visit: float = 30
    answer: float = 120
    explain: float = 600
    stop: float = 60
    ping: float = 15
    keep: float = 86_400
    sweep: float = 300

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("rate", "linger", "keep", "port", "in_memory") else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise ValueError(f"{field.name!r} is {value}; give {least} or more")
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name!r} is {value}; give a number of 0 or more")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def limits(self) -> Limits:
        """What decoding one input may cost."""
        return Limits(
            bytes=self.pictures,
            pixels=self.pixels,
            frames=self.frames,
            video_frames=self.frames,
            video_bytes=max(self.videos, self.pictures),
        )
