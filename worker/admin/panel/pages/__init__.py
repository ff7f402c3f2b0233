"""The panel's pages, one file a subject; a new subject is a file here and its line in the list."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from worker.admin.panel import entrance
from worker.admin.panel.pages import (
    awards,
    badge,
    catalog,
    diagnostics,
    editing,
    home,
    letters,
    milestone,
    proposals,
    translations,
    users,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    entrance.router,
    home.router,
    catalog.router,
    badge.router,
    users.router,
    awards.router,
    letters.router,
    editing.router,
    proposals.router,
    translations.router,
    diagnostics.router,
    milestone.router,
)
