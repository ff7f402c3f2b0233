"""The routers of the API, one file a subject; a new subject is a file here and its line in the list."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from worker.admin.api import description, events, health

ROUTERS: Final[tuple[APIRouter, ...]] = (
    health.router,
    description.router,
    events.router,
)
