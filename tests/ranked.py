"""Two processes that train together, kept for a module's tests, and what they are asked to do there."""

from __future__ import annotations

import dataclasses
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from assay.image.view import View
from assay.learn import descend, ranks
from assay.learn.batches import Batch, Batches, own
from assay.learn.descend import Forward, Machine, Training
from assay.learn.objective import objective
from assay.learn.ranks import ALONE, Ranks
from assay.learn.recipe import Descend, Recipe

PATIENCE = 200.0
"""Seconds that a test waits for both."""

Found = dict[str, Any]


class Pair:
    """Two ranks; called with a function of this module and what it is given, it has what each of them returns."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        context = get_context("spawn")
        self.ends, self.processes = [], []
        for number in range(2):
            here, there = context.Pipe()
            self.ends.append(here)
            self.processes.append(context.Process(target=_serve, args=(there, number, port), daemon=True))
            self.processes[-1].start()

    def __call__(self, function: Callable[..., Any], *given: Any) -> list[Any]:
        for end in self.ends:
            end.send((function, given))
        answers = []
        for end in self.ends:
            assert end.poll(PATIENCE), "a rank does not answer"
            answers.append(end.recv())
        for worked, answer in answers:
            assert worked, answer
        return [answer for _, answer in answers]

    def close(self) -> None:
        for end, process in zip(self.ends, self.processes, strict=True):
            end.send(None)
            process.join(PATIENCE)


def _serve(end: Connection, number: int, port: str) -> None:
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    with ranks.joined("cpu") as found:
        while (asked := end.recv()) is not None:
            function, given = asked
            try:
                end.send((True, function(found, *given)))
            except Exception:
                end.send((False, traceback.format_exc()))


# ── losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Drawing(torch.nn.Module):
    """Stands for a network that draws its pictures: it is to keep the squares of its rows small."""

    def __init__(self, rows: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.rows = rows

    def penalties(self) -> dict[str, Tensor]:
        return {"reconstruction": torch.cat(list(self.rows.values())).square().mean()}


class Given(Forward):
    """Embeddings that are given in place of a network's."""

    def __init__(self, rows: Mapping[str, Tensor], aside: Any, stage: Descend, of: Ranks) -> None:
        network: Any = Drawing(rows)
        penalties = getattr(stage.loss, "penalties", {})
        super().__init__(network, aside, penalties, stage.pairs, View(), Machine("cpu", False, 0, of))
        self.rows = rows

    def embed(self, views: Mapping[str, npt.NDArray[np.uint8]]) -> dict[str, Tensor]:
        return dict(self.rows)


def lost(of: Ranks, stage: Descend, names: tuple[str, ...], dtype: torch.dtype) -> Found:
    """A loss of made-up embeddings of a batch: its value, its gradient at this rank's rows, and, averaged over ranks,
    at the layers that it looks through."""
    chance = torch.Generator().manual_seed(7)
    every = {name: torch.randn(2 * stage.pairs, 6, generator=chance, dtype=torch.float64).to(dtype) for name in names}
    # Three methods, one of them of a single picture.
    methods = np.array([-1] * stage.pairs + [0, 1, 0, 1, 2][: stage.pairs], np.int64)
    teacher = np.random.default_rng(1).uniform(size=2 * stage.pairs)
    pairs = own(stage, of.share)
    mine = np.concatenate([pairs, stage.pairs + pairs])
    rows = {name: x[mine].requires_grad_() for name, x in every.items()}
    torch.manual_seed(3)
    aside = objective(stage.loss, 6).to(dtype)
    forward = Given(rows, aside, stage, of)
    loss = forward(Batch({}, methods[mine], teacher[mine]), torch.Generator().manual_seed(5))
    loss.backward()
    asides = {}
    for name, parameter in aside.named_parameters():
        if parameter.grad is not None:
            if of.count > 1:
                distributed.all_reduce(parameter.grad)
            asides[name] = (parameter.grad / of.count).numpy()
    # Of a rank's rows, what an average over ranks leaves.
    gradients = {name: (x.grad / of.count).numpy() for name, x in rows.items() if x.grad is not None}
    return {"loss": loss.item(), "mine": mine, "rows": gradients, "aside": asides}


def mean_of(of: Ranks) -> tuple[float, float]:
    """The mean over ranks of 3 and 5, and a rank's gradient of twice that."""
    own = torch.tensor(3.0 + 2 * of.number, requires_grad=True)
    found = of.mean(own)
    (2 * found).backward()
    assert own.grad is not None
    return found.item(), own.grad.item()


def ordered(of: Ranks, pairs: int) -> npt.NDArray[np.int64]:
    """The places of a batch, gathered from who has them."""
    mine = torch.arange(pairs)[of.number :: of.count]
    rows = torch.cat([mine, pairs + mine]).double()[None, :, None]
    found: npt.NDArray[np.int64] = of.whole(rows, pairs)[0, :, 0].numpy().astype(np.int64)
    return found


def dealt(of: Ranks, rows: int) -> tuple[int, npt.NDArray[np.float32]]:
    """How many of so many rows this rank has, and all of them, collected."""
    mine = of.dealt(range(rows))
    return len(mine), of.collected(np.array(mine, np.float32)[:, None], rows)


# ── trainings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def machine(of: Ranks, ways: Mapping[str, bool]) -> Machine:
    return Machine("cpu", False, 0, of, **ways)


def trained(of: Ranks, recipe: Recipe, batches: Batches, ways: Mapping[str, bool], steps: int) -> Found:
    """Losses of some steps, the parameters after them, and of how many numbers this rank holds the last one."""
    stream = recipe.streams[0]
    training = Training(stream, recipe.descend(stream.name), machine(of, ways), seed=0, total=6)
    mine = batches.of(of.share)
    for step in range(steps):
        training.advance(mine[step])
    parameters = training.parameters()
    held = sum(x.to_local().numel() if isinstance(x, DTensor) else x.numel() for x in parameters.values())
    whole = {name: x.full_tensor() if isinstance(x, DTensor) else x for name, x in parameters.items()}
    return {
        "losses": training.losses,
        "parameters": {name: x.detach().numpy() for name, x in whole.items()},
        "held": held,
    }


def exchanges(of: Ranks, recipe: Recipe, batches: Batches) -> tuple[int, list[float]]:
    """How often the gradients of a second step went around, and the losses of both."""
    stream = recipe.streams[0]
    training = Training(stream, recipe.descend(stream.name), machine(of, {}), seed=0, total=6)
    count = 0

    def counting(state, bucket):  # type: ignore[no-untyped-def]  # torch compares annotations, which are text here
        nonlocal count
        count += bucket.is_last()
        gradient = bucket.buffer()
        distributed.all_reduce(gradient)
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(gradient / of.count)
        return done

    training._averaged.register_comm_hook(None, counting)  # type: ignore[operator]
    for step in range(2):
        count = 0
        training.advance(batches.of(of.share)[step])
    return count, training.losses


class Stopped(Exception):
    """A run that a test ends."""


def descended(
    of: Ranks,
    recipe: Recipe,
    parts: Mapping[str, Any],
    folder: Path,
    ways: Mapping[str, bool],
    stop: int | None = None,
    told: Mapping[str, Any] | None = None,
) -> Found:
    """A whole descent: rank 0 is called, the other follows. It is ended after so many steps where a test asks so."""
    advance = Training.advance
    saved: list[str] = []
    save = Training._write

    def stopping(training: Training, batch: Batch) -> float:
        if training.step == stop:
            raise Stopped
        return advance(training, batch)

    def noting(training: Training, tensors: dict[str, Tensor], path: Path) -> None:
        saved.append(path.name)
        save(training, tensors, path)

    setup = machine(of, ways)
    stream = recipe.streams[0]
    training = None
    try:
        Training.advance, Training._write = stopping, noting  # type: ignore[method-assign]
        if of.lead:
            job = dict(parts) | dict(told or {})
            training = descend.descend(stream, recipe.descend(stream.name), folder=folder, machine=setup, seed=0, **job)
            of.tell(None)
        else:
            descend.follow(setup)
    except Stopped:
        pass
    finally:
        Training.advance, Training._write = advance, save  # type: ignore[method-assign]
    if training is None:
        return {"saved": saved}
    return {
        "saved": saved,
        "losses": training.losses,
        "best": (training.best, training.best_step),
        "machine": dataclasses.replace(training.machine, ranks=ALONE),
        "alone": training.machine.ranks.count == 1,
        "parameters": {name: x.detach().numpy() for name, x in training.parameters().items()},
    }
