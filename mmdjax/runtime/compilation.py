"""Programs are kept between processes, compiled ahead of time, and counted."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from mmdjax.runtime.files import cache_folder

# For functions that return compiled ones: equal arguments get the same function, so that systems
# with equal modules share programs. Bounded, since those of systems long gone stay as well.
shared = functools.lru_cache(maxsize=64)


def keep_programs(optimise: bool = True) -> None:
    """Makes compiled programs outlive the process: a second start, or a resumed run, skips
    compiling.

    Args:
      optimise: False for XLA's lowest level from here on, `AheadOfTime.run_often` excepted.
    """
    jax.config.update("jax_disable_most_optimizations", not optimise)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


class Counter:
    """Counts this process' programs from here on: all, and those read from the cache."""

    def __init__(self) -> None:
        self.programs, self.cached, self.seconds = 0, 0, 0.0
        self._lock = threading.Lock()
        jax.monitoring.register_event_duration_secs_listener(self._duration)
        jax.monitoring.register_event_listener(self._event)

    def _duration(self, event: str, seconds: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            with self._lock:
                self.programs += 1
                self.seconds += seconds

    def _event(self, event: str, **_: str | int) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            with self._lock:
                self.cached += 1

    def __str__(self) -> str:
        compiled = self.programs - self.cached
        text = f"{compiled} programs compiled, {self.cached} read from the cache"
        return f"{text}, {self.seconds:.1f} s"


# One worker: programs are compiled in the order of the requests.
_POOL = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")
_REQUESTED: weakref.WeakSet[Future] = weakref.WeakSet()


def cancel_waiting() -> None:
    """Drops all programs that are not being compiled yet, so that leaving early does not wait."""
    for future in list(_REQUESTED):
        future.cancel()


class AheadOfTime:
    """A jitted function whose programs for known shapes can be compiled in the background.

    Calling it with other shapes compiles on the spot, as `jax.jit` does.
    """

    def __init__(self, function: Callable, **options: Any) -> None:
        """options: of `jax.jit`; static arguments are given by name."""
        self._function, self.jitted = function, jax.jit(function, **options)
        self._programs: dict[tuple, Future] = {}
        self._shapes: dict[tuple, Any] = {}  # what `prepare` was given

    def prepare(self, *shapes: Any, **static: Any) -> None:
        """Starts compiling for arguments like these: arrays or `jax.ShapeDtypeStruct`s."""
        key = signature(shapes, static)
        if key not in self._programs or self._programs[key].cancelled():
            self._shapes[key] = shapes
            self._programs[key] = _POOL.submit(self._compiled, shapes, static)
            _REQUESTED.add(self._programs[key])

    def __call__(self, *arguments: Any, **static: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
            return self._function(*arguments, **static)
        key = signature(arguments, static)
        future = self._programs.get(key)
        if future is None or future.cancelled():
            return self.jitted(*arguments, **static)
        if future.cancel():  # it still waits in the queue: compiled here
            program, future = self._compiled(self._shapes[key], static), Future()
            future.set_result(program)
            self._programs[key] = future
        return future.result()(*arguments)

    def _compiled(self, shapes: Any, static: Mapping[str, Any]) -> Any:
        return self.jitted.lower(*shapes, **static).compile()

    def shapes(self, *arguments: Any, **static: Any) -> Any:
        """Returns the shapes of its result. The trace is kept for `prepare` and for calls."""
        return self.jitted.eval_shape(*arguments, **static)

    @classmethod
    def run_once(cls, function: Callable) -> AheadOfTime:
        """Returns it without optimisation, for programs that take longer to compile than to run."""
        return cls(function, compiler_options={"xla_backend_optimization_level": 0})

    @classmethod
    def run_often(cls, function: Callable, **options: Any) -> AheadOfTime:
        """Returns it optimised even after `keep_programs(False)`, for programs that run often."""
        if not jax.config.read("jax_disable_most_optimizations"):
            return cls(function, **options)
        most = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
        return cls(function, compiler_options=most, **options)

    def programs(self) -> int:
        """Returns the number of programs so far: prepared, and compiled by calls."""
        return len(self._programs) + self.jitted._cache_size()


def signature(arguments: Any, static: Mapping[str, Any] | None = None) -> tuple:
    """Returns structure, shapes and static arguments, by which programs of a function differ."""
    leaves, tree = jax.tree.flatten(arguments)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return tree, shapes, tuple(sorted((static or {}).items()))


def shapes_of(tree: Any) -> Any:
    """Returns the `jax.ShapeDtypeStruct`s of a pytree of arrays."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
