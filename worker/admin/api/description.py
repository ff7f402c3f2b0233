"""`GET /openapi.json`: the API's description of itself."""

from __future__ import annotations

from fastapi import Request, Response

from worker.admin.answers import json_answer
from worker.admin.openapi import described
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router

router = guarded_router(tags=["description"])


@router.get("/openapi.json", summary="This API as OpenAPI 3.1")
@least(Role.READER)
async def openapi(request: Request) -> Response:
    """Paths, bodies, answers and the role each asks for."""
    return json_answer(described(request.app))
