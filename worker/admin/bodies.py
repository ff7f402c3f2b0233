"""Bodies read exactly: numbers as they were written, every bound checked; and described for the OpenAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from worker.admin.problems import Problem
from worker.events import json_text

_STATUS: Final = {"too_large": 413, "not_json": 400}


async def read_json(request: Request) -> Any:
    """The body as JSON: ints and Decimals as they were written. Raises Problem 400, 413 or 422."""
    return parse_json(await request.body())


def parse_json(data: bytes) -> Any:
    """A body at hand; see `read_json`."""
    try:
        return json_text.loads(data)
    except json_text.JsonFault as fault:
        sentence = f"The body cannot be taken: {fault.message}."
        details = [{"path": fault.path, "message": fault.message}] if fault.path else []
        raise Problem(_STATUS.get(fault.code, 422), sentence, code=fault.code, details=details) from None


#: What endpoints write that hand the body to the catalog's own checks: `async def make(body: JsonBody, …)`.
JsonBody = Annotated[Any, Depends(read_json)]


def checked(model: type[BaseModel]) -> Callable[[Request], Awaitable[dict[str, Any]]]:
    """A dependency that reads a body of a model's form, and gives it as it was written. 422 where it has another."""

    async def read(request: Request) -> dict[str, Any]:
        body = await read_json(request)
        try:
            model.model_validate(body)
        except ValidationError as error:
            faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
            raise RequestValidationError(faults) from None
        return dict(body)

    return read


def described_body(model: type[BaseModel], *examples: Any, required: bool = True) -> dict[str, Any]:
    """What OpenAPI says of such a body: the model's schema, and examples that work."""
    content: dict[str, Any] = {"schema": _inlined(model)}
    if examples:
        content["examples"] = {f"example {number}": {"value": value} for number, value in enumerate(examples, 1)}
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


def _inlined(model: type[BaseModel]) -> Mapping[str, Any]:
    """The model's schema with its parts in it, since it stands alone."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(parts[value["$ref"].rpartition("/")[2]])
            return {key: inlined(inner) for key, inner in value.items()}
        return [inlined(inner) for inner in value] if isinstance(value, list) else value

    found: Mapping[str, Any] = inlined(schema)
    return found
