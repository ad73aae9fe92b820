"""A cluster of Ray's of several nodes, in one machine."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import assay

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on loopback
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # clusters side by side do not meet
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # else what serves a client dies of its fork, one time in five
    "no_proxy": "*",  # for a web server on loopback
}

QUICK = {
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 60_000,
    "health_check_failure_threshold": 4,
}
"""Nodes that start with as little as they need. One that is gone refuses connections and is missed soon, one that is
slow is waited for."""

STORE = 80 << 20
"""Bytes of a node's memory for objects; Ray takes no fewer."""


@dataclasses.dataclass
class Nodes:
    """The cluster: a node of one core that the driver is on, and another while a test has added one.

    Args:
        cluster: Ray's own.
        client: where its Ray Client is.
    """

    cluster: Any
    client: str

    def add(self) -> Any:
        """A further node of one core."""
        return _patiently(lambda: self.cluster.add_node(num_cpus=1, object_store_memory=STORE))

    def kill_worker(self) -> None:
        """End what judges on the driver's node, as a crash would."""
        for process in _children(self.cluster.head_node, b"MapWorker"):
            _end(process)

    def kill(self, node: Any) -> None:
        """End a node with all that runs on it."""
        doomed = _children(node)
        self.cluster.remove_node(node, allow_graceful=False)
        for process in doomed:  # what a lost machine takes along
            _end(process)


def _children(node: Any, marked: bytes = b"") -> list[int]:
    """What a node has started, by its command line."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = []
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet and marked in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def _end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _patiently(start: Callable[[], Any]) -> Any:
    """Ray gives a node half a minute to start, which a busy machine may take."""
    for _ in range(3):
        with contextlib.suppress(Exception):
            return start()
    return start()


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A cluster with a driver connected to it, and a port for Ray Client; started once, for all tests."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray, which the extra cluster installs")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():  # read when it is imported
            patch.setenv(name, value)
        # Nodes, and commands, find what is tested from any folder.
        patch.setenv("PYTHONPATH", str(Path(assay.__file__).parent.parent), prepend=os.pathsep)
        # Short: the names of sockets are long already.
        scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        # Below it Ray notes the address of the last cluster, in a folder that it expects to be there.
        patch.setenv("RAY_TMPDIR", scratch)
        (Path(scratch) / "ray").mkdir()
        yield from _running(scratch)


def _running(scratch: str) -> Iterator[Nodes]:
    import ray
    from ray.cluster_utils import Cluster

    options = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True, "temp_dir": scratch}
    options |= {"num_cpus": 1, "object_store_memory": STORE}

    def started() -> tuple[Any, int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        head = options | {"ray_client_server_port": port, "_system_config": QUICK}
        return Cluster(initialize_head=True, head_node_args=head), port

    cluster, port = _patiently(started)
    try:
        ray.init(address=cluster.address, configure_logging=False, log_to_driver=False)
        yield Nodes(cluster, f"ray://127.0.0.1:{port}")
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
