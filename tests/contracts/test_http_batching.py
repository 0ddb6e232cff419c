"""How requests share calls of a model; the model is a function here."""

import asyncio
import threading

import numpy as np
import pytest

from mmdjax.serving.http.batching import Batcher, Full

NEVER = 1e6  # seconds: only a full call starts


class Model:
    """Doubles its input, and writes down what it was called with; `let` lets it answer."""

    def __init__(self):
        self.calls, self.let = [], threading.Event()
        self.let.set()

    def __call__(self, inputs, seed):
        self.let.wait()
        self.calls.append((inputs[0]["m"].tolist(), seed))
        if (inputs[0]["m"] < 0).any():
            raise ValueError("negative")
        return {"mean": inputs[0]["m"] * 2}


def rows(*values):
    return ({"m": np.array(values, np.float32)},)


def answered(scenario, model, batch=4, wait=0.0, most=10):
    """What `scenario(ask, batcher)` returns while a batcher runs."""

    async def whole():
        batcher = Batcher(model, batch, wait, most)
        running = asyncio.create_task(batcher.run())

        async def ask(*values, seed=0):
            return (await batcher.ask(rows(*values), seed, len(values)))["mean"].tolist()

        try:
            return await scenario(ask, batcher)
        finally:
            model.let.set()
            running.cancel()

    return asyncio.run(whole())


async def turns(count=20):
    """Let other tasks go on."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_requests_that_come_together_share_a_call_in_their_order():
    async def scenario(ask, _):
        return await asyncio.gather(ask(1, 2), ask(3), ask(4))

    model = Model()
    assert answered(scenario, model, wait=NEVER) == [[2, 4], [6], [8]]
    assert model.calls == [([1, 2, 3, 4], 0)]


def test_a_call_that_is_not_full_starts_when_its_time_is_over():
    model = Model()
    assert answered(lambda ask, _: ask(1), model, wait=0.01) == [2]
    assert model.calls == [([1], 0)]


def test_a_request_larger_than_a_call_is_divided_and_comes_back_whole():
    async def scenario(ask, _):
        return await asyncio.gather(ask(*range(6)), ask(6, 7))

    model = Model()
    assert answered(scenario, model, wait=NEVER) == [[0, 2, 4, 6, 8, 10], [12, 14]]
    assert [call for call, _ in model.calls] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_seeds_do_not_share_calls():
    async def scenario(ask, _):
        return await asyncio.gather(ask(1), ask(2, seed=7), ask(3))

    model = Model()
    assert answered(scenario, model, batch=2) == [[2], [4], [6]]
    assert sorted(model.calls) == [([1, 3], 0), ([2], 7)]


def test_a_full_queue_refuses_and_has_room_again_later():
    async def scenario(ask, batcher):
        model.let.clear()
        first = asyncio.create_task(ask(1, 2))
        await turns()
        second = asyncio.create_task(ask(3))
        await turns()
        assert batcher.rows == 1
        with pytest.raises(Full):
            await ask(4, 5)
        model.let.set()
        return await first, await second, await ask(4, 5)

    model = Model()
    assert answered(scenario, model, batch=2, most=2) == ([2, 4], [6], [8, 10])


def test_who_gives_up_leaves_the_queue():
    async def scenario(ask, batcher):
        model.let.clear()
        first, second = asyncio.create_task(ask(1)), None
        await turns()
        second = asyncio.create_task(ask(2))
        await turns()
        second.cancel()
        await turns()
        assert batcher.rows == 0
        model.let.set()
        return await first, await ask(3)

    model = Model()
    assert answered(scenario, model, batch=1) == ([2], [6])
    assert [call for call, _ in model.calls] == [[1], [3]]


def test_a_call_that_fails_fails_its_requests_and_no_others():
    async def scenario(ask, _):
        failed = await asyncio.gather(ask(-1), ask(5), return_exceptions=True)
        return [type(error) for error in failed], await ask(6)

    assert answered(scenario, Model(), batch=2, wait=0.01) == ([ValueError, ValueError], [12])
