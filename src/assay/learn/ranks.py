"""Processes that train one network together, one to a device: which of them this is, and what they tell one another.

torch.distributed carries it, gloo between processors and nccl between GPUs; who starts the processes (`torchrun`, or
`assay.learn.launch`) says by the environment how many there are. Rank 0 leads: it alone reads the manifest, writes,
prints and exports, and the others wait for the descents that it begins (`assay.learn.descend.follow`).

What the ranks say to each other beside tensors is pickled by torch, as what a loader's processes say is: it comes from
this run's own processes, never from a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from assay.data.stream import WHOLE, Share
from assay.errors import AssayError, RecipeError

STEP_MINUTES = 30
"""A rank that waits so long for the others within a step gives up: the slowest batch is to be made in less."""

LOST = 75
"""Exit status of a rank that ended because another one had (sysexits' "try again later")."""

PATIENCE_DAYS = 365
"""And for what rank 0 does alone between two descents, which decodes a data set."""


class RankLost(AssayError):
    """Another rank has ended, and this one cannot go on without it. What went wrong is the other's to tell."""

    kind = "rank"


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Which of several processes this is, and how many they are; alone unless something else is said.

    Args:
        number: from 0, the leader.
        count: of all.
        talk: torch's group for what is said between steps.
    """

    number: int = 0
    count: int = 1
    talk: Any = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def lead(self) -> bool:
        return self.number == 0

    @property
    def share(self) -> Share:
        """This rank's part of what all go through together."""
        return Share(self.number, self.count) if self.count > 1 else WHOLE

    def tell(self, job: dict[str, Any] | None) -> None:
        """By the leader: what the others wait for in `told`."""
        if self.count > 1:
            with self.among():
                distributed.broadcast_object_list([job], 0, self.talk)

    def told(self) -> dict[str, Any] | None:
        """By the others: what the leader tells next, however long that takes."""
        heard: list[Any] = [None]
        with self.among():
            distributed.broadcast_object_list(heard, 0, self.talk)
        found: dict[str, Any] | None = heard[0]
        return found

    def agreed(self, value: float) -> float:
        """The leader's value, on every rank."""
        if self.count == 1:
            return value
        said = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(said, 0, self.talk)
        return float(said)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.count > 1:
            distributed.barrier(self.talk)

    def spread(self, *modules: nn.Module) -> None:
        """Give every rank the leader's parameters and buffers, of modules in the processor's memory."""
        if self.count > 1:
            for module in modules:
                for tensor in (*module.parameters(), *module.buffers()):
                    distributed.broadcast(tensor.data, 0, self.talk)

    def whole(self, rows: Tensor, pairs: int) -> Tensor:
        """What all ranks have of a batch, in the batch's order: a rank has every `count`-th pair, from its number on.

        Every rank computes the whole loss from this. What flows back to a rank's rows is the sum of what the ranks'
        equal losses send there, so gradients of parameters that are averaged over ranks are those of one rank that has
        the whole batch.

        Args:
            rows: (…, 2 * own pairs, d), reals first.
            pairs: of the whole batch, `count` at least.

        Returns:
            (…, 2 * pairs, d).
        """
        if self.count == 1:
            return rows
        *before, own, d = rows.shape
        most = -(-pairs // self.count)
        halves = rows.reshape(-1, 2, own // 2, d)
        # All give as many rows as who has the most; what is filled up comes last, and goes.
        filled = torch.cat([halves, halves.new_zeros(len(halves), 2, most - own // 2, d)], dim=2)
        every: Tensor = _Gathered.apply(filled, self)
        return every.movedim(0, 3).flatten(2, 3)[:, :, :pairs].reshape(*before, 2 * pairs, d)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over ranks. A rank's own number has the gradient of 1 that an average over ranks asks
        for."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        distributed.all_reduce(total)
        return value + (total / self.count - value).detach()

    def dealt(self, rows: Iterable[int]) -> list[int]:
        """This rank's rows of all: every `count`-th. As many on each rank, so that all go through a sharded network
        equally often: who has fewer has its last one twice, or the first."""
        every = list(rows)
        mine = every[self.number :: self.count]
        short = -(-len(every) // self.count) - len(mine)
        return mine + (mine or every)[-1:] * short

    def collected(self, own: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
        """What all ranks have of `count` rows that were `dealt`, (count, d), in their order."""
        if self.count == 1:
            return own
        every = torch.empty((self.count * len(own), own.shape[1]))
        distributed.all_gather_into_tensor(every, torch.from_numpy(own), self.talk)
        in_turn: npt.NDArray[np.float32] = every.reshape(self.count, *own.shape).transpose(0, 1).flatten(0, 1).numpy()
        return in_turn[:count]

    @contextlib.contextmanager
    def among(self) -> Iterator[None]:
        """Raises RankLost where another rank has gone in the midst of something that takes all."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _of_others(error):
                raise
            raise RankLost(f"rank {self.number} of {self.count} has lost another one, and stops") from error


ALONE = Ranks()


class _Gathered(torch.autograd.Function):
    """(…) of every rank, (ranks, …)."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        every = own.new_empty((ranks.count * own.shape[0], *own.shape[1:]))
        distributed.all_gather_into_tensor(every, own.contiguous())
        return every.reshape(ranks.count, *own.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # Every rank has computed the same loss, and so has this same gradient: their sum need not be sent around.
        return gradient[ctx.ranks.number] * ctx.ranks.count, None


def _of_others(error: RuntimeError) -> bool:
    told = str(error).lower()
    return isinstance(error, distributed.DistError) or any(
        word in told for word in ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
    )


def count() -> int:
    """How many ranks the environment speaks of."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def number() -> int:
    """Which of them this process is to be."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """This process among those that the environment speaks of; alone where it speaks of none.

    Args:
        device: "cpu" or "cuda", of which each rank on a machine takes the one of its number there.

    Raises:
        RecipeError: there are more ranks than GPUs on this machine.
    """
    if count() == 1:
        yield ALONE
        return
    if device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise RecipeError(f"rank {number()} has no GPU of its own, of {torch.cuda.device_count()}; give --devices")
        torch.cuda.set_device(local)
    step, between = datetime.timedelta(minutes=STEP_MINUTES), datetime.timedelta(days=PATIENCE_DAYS)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=step)
    # Advice that no user could follow; nothing is done in place to an embedding.
    for told in ("`broadcast_buffers` is deprecated", r"FSDP2-wrapped module .* returned a view tensor"):
        warnings.filterwarnings("ignore", message=told)
    talk = distributed.new_group(backend="gloo", timeout=between)
    yield Ranks(distributed.get_rank(), distributed.get_world_size(), talk)
    # Not after an error: others may be waiting for this rank, and are told by its end.
    distributed.destroy_process_group()
