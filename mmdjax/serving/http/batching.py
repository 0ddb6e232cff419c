"""Requests in calls of the model: one call at a time, of the utterances that wait."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class Full(Exception):
    """As many utterances wait as may."""


@dataclasses.dataclass(eq=False)
class _Asked:
    """A request; taken: its utterances in calls so far. parts: answers to some of them."""

    inputs: tuple
    seed: int
    rows: int
    since: float
    answer: asyncio.Future
    taken: int = 0
    parts: list = dataclasses.field(default_factory=list)


class Batcher:
    """Shares calls among requests.

    A call has room for `batch` utterances, in the order in which they came. It starts when it is
    full, or `wait` seconds after the first of them came, and once the one before it has ended.
    Requests of different seeds share none, as the model takes one seed a call.

    Attributes:
      call: (inputs, seed) -> pytree of arrays (rows, ...); inputs are those of requests, joined.
      most: utterances that may wait.
    """

    def __init__(self, call: Callable, batch: int, wait: float, most: int) -> None:
        self.call, self.batch, self.wait, self.most = call, batch, wait, most
        self._waiting: collections.deque[_Asked] = collections.deque()
        self._changed = asyncio.Event()

    @property
    def rows(self) -> int:
        """Utterances that wait."""
        return sum(asked.rows - asked.taken for asked in self._waiting)

    async def ask(self, inputs: tuple, seed: int, rows: int) -> Any:
        """Return the answer to all rows of a request. Rows that wait are dropped when the caller is
        cancelled.

        Raises:
          Full: they do not fit the queue.
        """
        if self.rows + rows > self.most:
            raise Full
        loop = asyncio.get_running_loop()
        asked = _Asked(inputs, seed, rows, loop.time(), loop.create_future())
        self._waiting.append(asked)
        self._changed.set()
        try:
            return await asked.answer
        finally:
            if asked in self._waiting:
                self._waiting.remove(asked)

    async def run(self) -> None:
        """Answer what is asked, until it is cancelled."""
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            while True:
                await self._enough()
                parts = self._take()
                if parts:
                    inputs = _joined([_rows(a.inputs, start, stop) for a, start, stop in parts])
                    called = loop.run_in_executor(thread, self.call, inputs, parts[0][0].seed)
                    try:
                        answer = await called
                    except Exception as error:
                        for asked, *_ in parts:
                            if not asked.answer.done():
                                asked.answer.set_exception(error)
                    else:
                        _hand_out(answer, parts)

    async def _enough(self) -> None:
        """Wait until a call is to start."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        end = self._waiting[0].since + self.wait
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while sum(stop - start for _, start, stop in self._next()) < self.batch:
                    self._changed.clear()
                    await self._changed.wait()

    def _next(self) -> list[tuple[_Asked, int, int]]:
        """Return the requests of a call that starts now, with the rows of each."""
        parts, room = [], self.batch
        for asked in self._waiting:
            count = min(room, asked.rows - asked.taken)
            if count and asked.seed == self._waiting[0].seed:
                parts.append((asked, asked.taken, asked.taken + count))
                room -= count
        return parts

    def _take(self) -> list[tuple[_Asked, int, int]]:
        parts = self._next()
        for asked, _, stop in parts:
            asked.taken = stop
            if stop == asked.rows:
                self._waiting.remove(asked)
        return parts


def _hand_out(answer: Any, parts: list[tuple[_Asked, int, int]]) -> None:
    """Give each request its rows of an answer."""
    at = 0
    for asked, start, stop in parts:
        asked.parts.append(_rows(answer, at, at + stop - start))
        at += stop - start
        if stop == asked.rows and not asked.answer.done():
            asked.answer.set_result(_joined(asked.parts))


def _rows(tree: Any, start: int, stop: int) -> Any:
    return jax.tree.map(lambda a: a[start:stop], tree)


def _joined(trees: list) -> Any:
    return jax.tree.map(lambda *a: np.concatenate(a), *trees)
