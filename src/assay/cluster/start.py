"""Ray, as far as a scan needs it: a cluster of its own on this machine, or one that the user names.

Whoever reaches a port of Ray's can run code on the cluster. A cluster of one's own therefore listens on loopback alone,
asks for a token that is drawn for it, has no dashboard, and tells nobody of its use; it ends with the scan. Of a
cluster that is named, its owner has to see to that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.errors import AssayError, MissingExtra, words
from assay.image.quiet import hushed

LIBRARIES = ("ray", "fsspec", "aiohttp", "pyarrow")

HERE = "auto"
"""Stands for the cluster that this machine is part of."""

_STORE = 128 << 20
"""Least bytes of a cluster's memory for objects: nothing but the bundle and tallies passes through it."""

_QUIET = ("ray", "ray.data", "ray.util.client")


@dataclasses.dataclass(frozen=True, slots=True)
class Crew:
    """Who judges.

    Args:
        size: how many workers.
        cores: of each.
        gpus: of each, 0 or 1.
    """

    size: int
    cores: int
    gpus: int


def require() -> None:
    """Whether the extra is installed. Raises MissingExtra."""
    if any(importlib.util.find_spec(name) is None for name in LIBRARIES):
        raise MissingExtra("a scan on a cluster", "cluster")


def is_connected() -> bool:
    """Whether this process has a connection already."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextlib.contextmanager
def connected(address: str | None, size: int) -> Iterator[Any]:
    """The module `ray`, connected.

    A connection that the process has already is taken, and kept, whatever the address.

    Args:
        address: ray://HOST:PORT of a cluster's Ray Client, or `HERE`; None starts a cluster here, on all cores.
        size: bytes of the bundle that will pass through it.

    Raises:
        AssayError: kind "cluster": none answers, or none can be started.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Read when Ray is imported, which it should not be yet: makes it listen on loopback.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            # Else Ray draws one too, and leaves it in the home folder. That it be asked for is Ray's default.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray
    import ray.data

    with contextlib.ExitStack() as stack:
        # Importing it sets the levels of its loggers.
        stack.enter_context(hushed(_QUIET, logging.CRITICAL))
        if not ray.is_initialized():
            options: dict[str, Any] = {"address": address or "local"}
            if address is None:
                scratch = stack.enter_context(_scratch())
                options |= {
                    "include_dashboard": False,
                    "object_store_memory": max(_STORE, 2 * size),
                    "_temp_dir": scratch,
                }
            stack.callback(ray.shutdown)
            _init(ray, options, address)
        yield ray


def _init(ray: Any, options: dict[str, Any], address: str | None) -> None:
    try:
        try:
            _tried(ray, options)
        except Exception as error:
            # Ray gives its own processes half a minute, which a busy machine may take. And the process that a head
            # starts for a client now and then dies of its fork: gRPC's threads do not survive one.
            if address is not None and "Initialization failure" not in str(error):
                raise
            ray.shutdown()
            _tried(ray, options)
    except Exception as error:  # Ray's own, gRPC's and those of the operating system
        if address is None:
            raise AssayError(f"Ray can't be started here ({words(error, 200)})", kind="cluster") from error
        raise AssayError(
            f"no cluster of Ray's answers at {address} ({words(error, 200)}); start one with `ray start --head`, or "
            "look at the address and the token",
            kind="cluster",
        ) from error


def _tried(ray: Any, options: dict[str, Any]) -> None:
    ray.init(**options, configure_logging=False, logging_level=logging.ERROR, log_to_driver=False)


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """Where Ray keeps logs and sockets. Their names are long already, so it has to be a short one."""
    short = Path("/tmp")
    place = tempfile.mkdtemp(prefix="assay-ray-", dir=short if short.is_dir() else None)
    try:
        # Below it, as Ray lets everybody into the folder that it is given.
        yield str(Path(place) / "r")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def crew(ray: Any, threads: int | None, most: int) -> Crew:
    """A worker for each GPU, where the cluster has some that ONNX Runtime can use there; else one for each core, or for
    as many cores as are asked for.

    Args:
        threads: cores of a worker; None for 1, or for a GPU's share of the cores.
        most: no more workers than that.

    Raises:
        AssayError: kind "cluster": no machine has so many cores, or none has assay.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = sum(int(node.get("CPU", 0)) for node in nodes)
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus and _usable(ray):
        # A share of the smallest machine's cores, so that each GPU finds its worker.
        shares = [int(node.get("CPU", 0)) // int(node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1]
        return Crew(min(gpus, most), threads or max(1, min(shares)), 1)
    each = threads or 1
    size = sum(int(node.get("CPU", 0)) // each for node in nodes)
    if not size:
        raise AssayError(f"no machine of the cluster has {each} cores; it has {cores} in all", kind="cluster")
    return Crew(min(size, most), each, 0)


def _usable(ray: Any) -> bool:
    probe = ray.remote(num_cpus=0, num_gpus=1, max_retries=0)(_has_cuda)
    return bool(ray.get(probe.remote()))


def _has_cuda() -> bool:
    from assay.judge import engine

    return engine.on_gpu("auto")
