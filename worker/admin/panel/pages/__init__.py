"""The panel's pages, one file a subject; a new subject is a file here and its line in the list."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from worker.admin.panel import entrance
from worker.admin.panel.pages import (
    awards,
    badge,
    by_hand,
    catalog,
    coverage,
    diagnostics,
    editing,
    holders,
    home,
    jobs,
    letters,
    milestone,
    person,
    proposals,
    quarantine,
    redriving,
    sections,
    settings,
    translations,
    users,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    entrance.router,
    home.router,
    catalog.router,
    badge.router,
    awards.router,
    holders.router,
    quarantine.router,
    letters.router,
    redriving.router,
    person.router,
    editing.router,
    sections.router,
    proposals.router,
    translations.router,
    coverage.router,
    by_hand.router,
    users.router,
    jobs.router,
    settings.router,
    diagnostics.router,
    milestone.router,
)
