"""Starting the ranks of a training on one machine: a process for each, all of them ended when one fails.

It is torch's own launcher (what `torchrun` calls), so that a rank sees the same environment whoever started it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from assay.errors import RecipeError
from assay.learn.ranks import LOST

ASSAY = (sys.executable, "-P", "-m", "assay")


def fit(devices: int, device: str) -> None:
    """See that there are so many devices.

    Raises:
        RecipeError: there are fewer GPUs.
    """
    gpus = torch.cuda.device_count()
    if device != "cpu" and gpus and devices > gpus:
        raise RecipeError(f"this machine has {gpus} GPUs, not {devices}; give --devices {gpus}, or --device cpu")


def start(devices: int, arguments: Sequence[str], command: Sequence[str] = ASSAY) -> tuple[int, str]:
    """Run a command in `devices` processes at once, and wait for them.

    When one fails, the others are told to stop, and killed where they do not within half a minute. Ctrl-C and SIGTERM
    are passed on to all.

    Returns:
        Exit status, as a shell would give that of the rank that failed first (0: none did, 128 + n: signal n); and
        which one it was and how it ended, for a message: empty where it is not known, or nothing failed.
    """
    # Processors that do not share their cores out wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    first, *rest = (*command, *arguments)
    # What it has to say is said here, in a line.
    loud = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as logs:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=devices,
                max_restarts=0,
                run_id=uuid.uuid4().hex,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                local_addr="localhost",
                logs_specs=DefaultLogsSpecs(log_dir=logs),
            )
            elastic_launch(config, first)(*rest)
    except SignalException as stop:
        return 128 + stop.sigval, ""
    except ChildFailedError as error:
        return _told(error.failures)
    finally:
        logging.disable(loud)
    return 0, ""


def _told(failures: Mapping[int, ProcessFailure]) -> tuple[int, str]:
    # Those that were told to stop, and those that had lost another, are no cause.
    ends = {rank: failure.exitcode for rank, failure in failures.items()}
    causes = {rank: code for rank, code in ends.items() if code not in (LOST, -signal.SIGTERM)} or ends
    rank, code = min(causes.items())
    if code < 0:
        return 128 - code, f"rank {rank} was ended by {signal.Signals(-code).name}"
    return code, f"rank {rank} ended with status {code}"
