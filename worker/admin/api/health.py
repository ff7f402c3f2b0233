"""`GET /health`: whether the API can answer, which it can where the database does."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import Response

from worker.admin.answers import json_answer
from worker.admin.problems import answer, unavailable
from worker.admin.roles import anybody
from worker.admin.routes import guarded_router
from worker.admin.services import Asked
from worker.errors import BadgesError

#: How long the database may take to answer, seconds.
_PATIENCE_SECONDS: Final = 2.0

router = guarded_router(tags=["health"])


@router.get("/health", summary="Whether the API can answer")
@anybody()
async def health(services: Asked) -> Response:
    """200 `{"status": "healthy"}`, or 503 where the database does not answer."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await services.store.ping()
    except TimeoutError:
        return answer(unavailable("The database does not answer."))
    except BadgesError as error:
        return answer(unavailable(error.message))
    return json_answer({"status": "healthy"})
