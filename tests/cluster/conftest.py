"""A cluster of Ray's of several nodes, in one machine."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import assay

TOKEN = "ab" * 32

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on loopback
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # else what serves a client dies of its fork, one time in five
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


@dataclasses.dataclass
class Nodes:
    """The cluster; `far` is a node that the driver is not on."""

    cluster: Any
    far: Any
    client: str
    store: int = 80 << 20

    def workers(self, node: Any = None) -> list[int]:
        """Process ids of what judges, on one node or on all."""
        raylets = {
            each.all_processes["raylet"][0].process.pid for each in ([node] if node else self.cluster.list_all_nodes())
        }
        found = []
        for place in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in raylets and b"MapWorker" in (place / "cmdline").read_bytes():
                    found.append(int(place.name))
        return found

    def kill_worker(self) -> int:
        """End one of the processes that judge, as a crash would."""
        chosen = self.workers()[0]
        os.kill(chosen, signal.SIGKILL)
        return chosen

    def kill_far(self) -> None:
        """End a node with all that runs on it."""
        doomed = self.workers(self.far)
        self.cluster.remove_node(self.far, allow_graceful=False)
        for process in doomed:  # what a lost machine takes along
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def revive(self) -> None:
        """Put a node in the place of the one that was ended."""
        self.far = self.cluster.add_node(num_cpus=1, object_store_memory=self.store)


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """Two nodes of one core each, a driver connected to the first, and a port for Ray Client."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray, which the extra cluster installs")
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)  # read when it is imported
    # Nodes, and commands, find what is tested from any folder.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(assay.__file__).parent.parent), *before.get("PYTHONPATH", "").split(os.pathsep)]
    )
    import ray
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Short: the names of sockets are long already.
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    options = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True, "temp_dir": scratch}
    head = options | {"num_cpus": 1, "object_store_memory": Nodes.store, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head | {"_system_config": QUICK})
    try:
        far = cluster.add_node(num_cpus=1, object_store_memory=Nodes.store)
        ray.init(address=cluster.address, configure_logging=False, log_to_driver=False)
        deadline = time.monotonic() + 60
        while ray.cluster_resources().get("CPU") != 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield Nodes(cluster, far, f"ray://127.0.0.1:{port}")
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)
