"""The API's description: what FastAPI derives, and what every route has in common: role, token, refusals."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from worker.admin.examples import answer_example, refusal
from worker.admin.roles import Role
from worker.admin.routes import Guarded

_PROBLEM: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["path", "message"],
                        "properties": {
                            "path": {"type": "string", "description": "JSON pointer from the body's root"},
                            "message": {"type": "string"},
                        },
                    },
                },
            },
        }
    },
}
_REFUSALS: Final = {
    "400": "The request cannot be read",
    "401": "No token, or one that is not known",
    "403": "The token's role does not cover this",
    "404": "There is no such thing",
    "409": "It is taken, it is in use, or somebody was faster",
    "413": "The body is too large",
    "415": "The body is of a type that is not taken",
    "422": "A value is not as it must be",
    "429": "Too many requests; `Retry-After` says when to come again",
    "503": "A service is away; `Retry-After` says when to come again",
}


def described(app: FastAPI) -> dict[str, Any]:
    """OpenAPI of all routes that declare themselves to the schema; made once."""
    found = app.openapi_schema
    if found is None:
        found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        parts = found.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = _PROBLEM
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for route in guarded_routes(app):
            for method in (route.methods or set()) & {"GET", "PUT", "POST", "PATCH", "DELETE"}:
                operation = found["paths"].get(route.path_format, {}).get(method.lower())
                if operation is not None:
                    _complete(operation, route)
                    _show(operation, method.lower(), route.path_format)
        app.openapi_schema = found
    return found


def guarded_routes(app: FastAPI) -> list[Guarded]:
    """Every route of the app that has a gate."""
    return [route for route in app.routes if isinstance(route, Guarded)]


def _complete(operation: dict[str, Any], route: Guarded) -> None:
    role = route.admission.role
    operation["security"] = [] if role is None else [{"token": []}]
    operation["x-least-role"] = None if role is None else role.value
    operation["x-roles"] = [one.value for one in Role if route.admission.open_to(one)]
    answers = operation.setdefault("responses", {})
    for status, sentence in _REFUSALS.items():
        if role is None and status in ("401", "403"):
            continue
        answers[status] = {
            "description": sentence,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": refusal(status),
                }
            },
        }


def _show(operation: dict[str, Any], method: str, path: str) -> None:
    """Give each answer of an operation the example of its form."""
    for answer in operation["responses"].values():
        for kind, content in (answer.get("content") or {}).items():
            if "example" not in content:
                found = answer_example(method, path, kind, content.get("schema") or {})
                if found is not None:
                    content["example"] = found
