"""The panel's routes, as the application has them, and an address of each: what walks over every page begins here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from worker.admin.oidc import router as oidc_router
from worker.admin.panel.pages import ROUTERS
from worker.admin.routes import Guarded


def panel_routes() -> Iterator[tuple[str, Guarded]]:
    """Each route of the panel as `GET /users/{user_id}`, without the panel's root."""
    for router in (*ROUTERS, oidc_router):
        for route in router.routes:
            assert isinstance(route, Guarded)
            for method in sorted(route.methods - {"HEAD"}):
                yield f"{method} {re.sub(r':path}', '}', route.path.removeprefix('/panel'))}", route


def filled(address: str, world: Mapping[str, str]) -> str:
    """An address with its `{parameters}` as a world names them; KeyError where it names none."""
    return re.sub(r"\{(\w+)\}", lambda found: quote(world[found[1]], safe="/"), address)
