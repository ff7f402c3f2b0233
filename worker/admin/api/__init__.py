"""The routers of the API, one file a subject; a new subject is a file here and its line in the list."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from worker.admin.api import (
    acts,
    awards,
    badge_list,
    badges,
    condition_types,
    description,
    event_types,
    events,
    health,
    people,
    rehearsal,
    rules,
    users,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    users.router,
    people.router,
    awards.router,
    badge_list.router,
    event_types.router,
    badges.router,
    condition_types.router,
    rules.router,
    acts.router,
    rehearsal.router,
    health.router,
    description.router,
    events.router,
)
