"""Diagnostics: where to try things without changing any."""

from __future__ import annotations

from starlette.responses import Response

from worker.admin.panel.frame import ROOT
from worker.admin.panel.page import Opened
from worker.admin.roles import Role, least
from worker.admin.routes import guarded_router

router = guarded_router(prefix=ROOT, include_in_schema=False)


@router.get("/diagnostics")
@least(Role.READER)
async def diagnostics(page: Opened) -> Response:
    """What there is to try."""
    return await page.show("diagnostics.html", title="Diagnostics", section="Diagnostics")
