"""The routes of `--mode=serve`, what they refuse, and what they count."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import resources
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as exposed
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mmdjax.errors import UserError
from mmdjax.serving.http import bodies, examples
from mmdjax.serving.http.batching import Batcher, Full
from mmdjax.serving.http.settings import Settings
from mmdjax.serving.loader import Model

KINDS = {bodies.JSON: bodies.JSON, bodies.NPZ: bodies.NPZ}
KINDS |= {"application/zip": bodies.NPZ, "application/octet-stream": bodies.NPZ}
PAGE = ("page.html", "page.css", "chart.js", "prediction.js", "page.js")
ABOUT = ("title", "task", "draws", "level", "frame_gaps", "beside", "modalities")
# The page asks nobody but its own server.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
POLICY += "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
WHOLE = ("features", "drawn", "exists", "deviation")  # left out of answers to /predict
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Service:
    """A model with its queue and its counters; `routes` are what it answers.

    Attributes:
      model: of `mmdjax.serving.loader`, of one batch size: answers are then equal to the last bit,
        whoever shares the call.
      shown: what `GET /examples` answers, see `examples.of_columns`.
    """

    def __init__(self, model: Model, settings: Settings, shown: list[dict]) -> None:
        self.model, self.settings, self.shown = model, settings, shown
        self.about = {name: model.signature[name] for name in ABOUT}
        self.about["completes"] = "features" in model.signature["outputs"]
        self.batcher = Batcher(self._call, settings.batch, settings.wait, settings.queue)
        self.open, self.registry = 0, CollectorRegistry()
        into, timed = {"registry": self.registry}, {"registry": self.registry, "buckets": SECONDS}
        sizes = into | {"buckets": tuple(2**i for i in range(settings.batch.bit_length()))}
        by_path, by_status = ("path",), ("path", "status")
        self.answered = Counter("mmdjax_requests", "Requests.", by_status, **into)
        self.took = Histogram("mmdjax_request_seconds", "Until the answer.", by_path, **timed)
        self.calls = Histogram("mmdjax_call_seconds", "Calls of the model.", **timed)
        self.shared = Histogram("mmdjax_call_utterances", "Utterances in a call.", **sizes)
        waiting = Gauge("mmdjax_waiting_utterances", "Utterances in the queue.", **into)
        waiting.set_function(lambda: self.batcher.rows)

    def routes(self) -> list[Route]:
        asked = {"/predict": self._predict, "/impute": self._impute, "/examples": self._read}
        page = HTMLResponse(_page(), headers={"Content-Security-Policy": POLICY})
        return [
            *(Route(path, self._guarded(path, do), methods=["POST"]) for path, do in asked.items()),
            Route("/examples", _always(JSONResponse({"utterances": self.shown}))),
            Route("/health", _always(JSONResponse({"status": "ok", "model": self.about}))),
            Route("/metrics", self._metrics),
            Route("/", _always(page)),
        ]

    async def _metrics(self, _: Request) -> Response:
        return Response(exposed(self.registry), media_type=CONTENT_TYPE_LATEST)

    def _call(self, inputs: tuple, seed: int) -> dict[str, Any]:
        """Call the model; in the batcher's thread."""
        self.shared.observe(len(next(iter(inputs[1].values()))))
        with self.calls.time():
            return self.model(inputs, seed)

    def _guarded(
        self, path: str, do: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that answers in time, or says in one line why not."""

        async def endpoint(request: Request) -> Response:
            started, self.open = time.perf_counter(), self.open + 1
            try:
                if self.open > self.settings.queue:
                    raise Full
                async with asyncio.timeout(self.settings.timeout):
                    response = await do(request)
            except Exception as error:
                response = self._refusal(error)
            finally:
                self.open -= 1
            self.answered.labels(path, response.status_code).inc()
            self.took.labels(path).observe(time.perf_counter() - started)
            return response

        return endpoint

    def _refusal(self, error: Exception) -> Response:
        match error:
            case HTTPException():
                return _error(error.status_code, error.detail)
            case bodies.TooLarge():
                return _error(413, str(error))
            case UserError():
                return _error(400, str(error))
            case ClientDisconnect():
                return _error(400, "the body ended early")
            case Full():
                text = f"busy: {self.settings.queue} utterances wait; allowed: try again later"
                return _error(503, text, {"Retry-After": "1"})
            case TimeoutError():
                text = f"not answered within {self.settings.timeout:g} s; allowed: try again later"
                return _error(504, text)
        logging.getLogger("uvicorn.error").error("a request failed", exc_info=error)
        return _error(500, "the server failed; its log says where")

    async def _predict(self, request: Request) -> Response:
        return await self._ask(request, lambda name: name not in WHOLE)

    async def _impute(self, request: Request) -> Response:
        if not self.about["completes"]:
            raise HTTPException(404, "the model completes no features; allowed: /predict")
        return await self._ask(request, lambda _: True)

    async def _ask(self, request: Request, wanted: Callable[[str], bool]) -> Response:
        kind, seed = _kind_of_answer(request), _seed(request)
        columns = await self._columns(request)
        inputs = await asyncio.to_thread(bodies.inputs, self.model, columns)
        rows = len(next(iter(inputs[1].values())))
        if rows > self.settings.queue:
            raise bodies.TooLarge(f"{rows} utterances; allowed: at most {self.settings.queue}")
        answer = await self.batcher.ask(inputs, seed, rows)
        answer = {name: a for name, a in answer.items() if wanted(name)}
        body = await asyncio.to_thread(bodies.written, answer, kind)
        return Response(body, media_type=kind)

    async def _read(self, request: Request) -> Response:
        """Show a file's utterances as the page has them; nothing is kept."""
        columns = await self._columns(request)
        read = await asyncio.to_thread(examples.of_columns, self.model, columns)
        return JSONResponse({"utterances": read})

    async def _columns(self, request: Request) -> dict:
        kind, most, body = _kind_of_body(request), self.settings.body, bytearray()
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise bodies.TooLarge(f"a body of {declared} bytes; allowed: at most {most}")
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise bodies.TooLarge(f"a body of more than {most} bytes; allowed: at most {most}")
        return await asyncio.to_thread(bodies.columns, bytes(body), kind, most)


def make(model: Model, settings: Settings, shown: list[dict]) -> Starlette:
    """Return the application; arguments as of `Service`."""
    service = Service(model, settings, shown)

    @contextlib.asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(service.batcher.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def refuse(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            paths = ", ".join(dict.fromkeys(route.path for route in app.routes))
            return _error(404, f"path {request.url.path!r} is unknown; allowed: {paths}")
        allowed = (error.headers or {}).get("Allow", "another request")
        return _error(error.status_code, f"{request.method}; allowed: {allowed}", error.headers)

    handlers = {HTTPException: refuse}
    app = Starlette(routes=service.routes(), exception_handlers=handlers, lifespan=running)
    return app


def _always(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        return response

    return endpoint


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": " ".join(text.split())}, status, headers)


def _kind_of_body(request: Request) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in KINDS:
        raise HTTPException(415, f"Content-Type {given!r}; allowed: {', '.join(KINDS)}")
    return KINDS[given]


def _kind_of_answer(request: Request) -> str:
    """Return the first kind that `Accept` names; that of the body where it leaves it open."""
    accepted = request.headers.get("accept", "*/*")
    for given in (part.partition(";")[0].strip().lower() for part in accepted.split(",")):
        if given in KINDS:
            return KINDS[given]
        if given in ("*/*", "application/*"):
            return _kind_of_body(request)
    raise HTTPException(406, f"Accept {accepted!r}; allowed: {', '.join(KINDS)}")


def _seed(request: Request) -> int:
    given = request.query_params.get("seed", "0")
    if not (given.isascii() and given.isdecimal() and len(given) < 11 and int(given) < 2**32):
        raise HTTPException(400, f"seed {given!r}; allowed: 0 to {2**32 - 1}")
    return int(given)


def _page() -> str:
    """Return the page with its style and scripts in it."""
    folder = resources.files(__package__)
    page, *inside = ((folder / name).read_text() for name in PAGE)
    for name, text in zip(PAGE[1:], inside, strict=True):
        page = page.replace(f"/* {name} */", text)
    return page
