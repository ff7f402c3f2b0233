"""Every refusal in one shape: `{"error": {"code", "message", "details": [{"path", "message"}]}}`, whoever refuses."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from logging import INFO, WARNING
from typing import Any, Final

import structlog
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from worker.admin.answers import as_json
from worker.admin.headers import ALWAYS
from worker.errors import AuthorError, BadgesError, PoisonBatch, TransientError
from worker.events.json_text import escape

log = structlog.get_logger(__name__)

#: Names a request in the answer that refuses it and in the log; a proxy or client may have given one before.
REQUEST_ID: Final = "X-Request-Id"
_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: What a client is told to wait, seconds, where a service is away.
RETRY_SECONDS: Final = 2

_CODES: Final = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_requests",
    503: "unavailable",
}
_SENTENCES: Final = {
    404: "There is nothing at this address.",
    405: "This address does not take this method.",
}
_LONGEST: Final = 1_000
_MOST_DETAILS: Final = 100


class Problem(HTTPException):
    """A refusal: its status, code, sentence and, for each fault, a JSON pointer from the body's root and a sentence."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code or _CODES.get(status, "error")
        self.message = message
        self.details = details
        #: The limit that refused, as the metrics name it.
        self.limit = limit

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {
            "error": {
                "code": self.code,
                "message": self.message[:_LONGEST],
                "details": [dict(detail) for detail in self.details[:_MOST_DETAILS]],
            }
        }


def unavailable(message: str, *, seconds: int = RETRY_SECONDS, limit: str | None = None) -> Problem:
    """503: a service is away, or full; the same request may pass after `seconds`."""
    return Problem(503, message, headers={"Retry-After": str(seconds)}, limit=limit)


def not_found(what: str) -> Problem:
    """404 for something a request names; `what` as `user u42`."""
    return Problem(404, f"There is no {what}.")


def problem_of(error: Exception) -> Problem:
    """The refusal that says what an error means to a client."""
    match error:
        case Problem():
            return error
        case StarletteHTTPException():
            return _of_http(error)
        case RequestValidationError():
            return _of_validation(error)
        case ClientDisconnect():
            return Problem(400, "The body did not come whole.")
        case AuthorError():
            faults = [
                {"path": fault.path, "message": fault.message, "code": fault.code, "severity": fault.severity}
                | ({"help": fault.help} if fault.help else {})
                for fault in error.faults
            ]
            return Problem(422, error.message, details=faults)
        case TransientError():
            return unavailable(error.message)
        case PoisonBatch():
            return Problem(422, "A value cannot be stored: it may hold NUL characters or be too long.")
        case BadgesError():
            return unavailable(" ".join(filter(None, [error.message, error.help])))
    return Problem(500, "This was not foreseen; the log of `badges admin` says more.", code="internal")


def answer(problem: Problem) -> Response:
    """The response of a refusal."""
    return Response(
        as_json(problem.body()), problem.status_code, media_type="application/json", headers=problem.headers or None
    )


def shape_problems(app: FastAPI) -> None:
    """Let every error of the app be answered in the one shape; pages may show theirs by `app.state.page_problem`."""
    for kind in (*_FORESEEN, Exception):
        app.add_exception_handler(kind, shaped)


def request_id(request: Request) -> str:
    """What a request is named by: as it was given from outside, where that can be a name, else made here, once."""
    found: str | None = getattr(request.state, "id", None)
    if found is None:
        given = request.headers.get(REQUEST_ID, "")
        found = request.state.id = given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
    return found


async def shaped(request: Request, error: Exception) -> Response:
    """The response of any error, with the request's id."""
    problem = problem_of(error)
    if problem.limit is not None:
        request.app.state.metrics.refused.labels(problem.limit).inc()
    if problem.status_code == 405:
        problem.headers = {"Allow": ", ".join(_methods(request))}
    page = getattr(request.app.state, "page_problem", None)
    told = None if page is None else page(request, problem)
    if told is not None or problem.status_code == 500:
        _note(request, problem, error)
    if told is None:
        told = answer(problem)
        if problem.status_code == 500:  # goes out past all middleware
            told.headers.update(ALWAYS)
    told.headers[REQUEST_ID] = request_id(request)
    return told


def _note(request: Request, problem: Problem, error: Exception) -> None:
    """Leave a line for who is given the id that a person was shown; programs are told all in their answers.

    Who shows no token and no session makes no lines but by faults of ours.
    """
    if problem.status_code < 500 and getattr(request.state, "actor", None) is None:
        return
    log.log(
        WARNING if problem.status_code >= 500 else INFO,
        "request_refused",
        request_id=request_id(request),
        method=request.method,
        route=getattr(request.scope.get("route"), "path_format", "none"),
        status=problem.status_code,
        reason=problem.message if foreseen(error) else type(error).__name__,
    )


_FORESEEN: Final[tuple[type[Exception], ...]] = (
    StarletteHTTPException,
    RequestValidationError,
    BadgesError,
    ClientDisconnect,
)


def foreseen(error: Exception) -> bool:
    """Whether an error says what a client did or a service lacks; all others are faults of ours, for the log."""
    return isinstance(error, _FORESEEN)


def _methods(request: Request) -> list[str]:
    """The methods that the address of a request takes, by whichever of its routes."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def _of_http(error: StarletteHTTPException) -> Problem:
    status = error.status_code
    sentence = _SENTENCES.get(status)
    if sentence is None:
        known = str(error.detail)
        sentence = f"{known.rstrip('.')}." if known else f"{HTTPStatus(status).phrase}."
    return Problem(status, sentence, headers=error.headers)


def _of_validation(error: RequestValidationError) -> Problem:
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        place = next(fault["loc"][-1] for fault in faults if fault["type"] == "json_invalid")
        why = next(fault.get("ctx", {}).get("error", "") for fault in faults if fault["type"] == "json_invalid")
        return Problem(400, f"The body is not JSON: {why} at character {place}.", code="not_json")
    details = [{"path": _pointer(fault["loc"]), "message": str(fault["msg"])[:_LONGEST]} for fault in faults]
    first = details[0]
    return Problem(422, f"{first['path'] or 'The body'}: {first['message']}.", details=details)


def _pointer(place: Sequence[Any]) -> str:
    """A JSON pointer from the body's root; `?name` for a query's parameter, `{name}` for one of the address."""
    where, *steps = place
    if where == "body":
        return "".join(f"/{escape(str(step))}" for step in steps)
    name = str(steps[0]) if steps else ""
    return {"query": f"?{name}", "path": f"{{{name}}}"}.get(str(where), f"{where} {name}")
