"""The panel: pages for support, authors and operators, rendered here, without a build chain."""

from __future__ import annotations

from fastapi import FastAPI

from worker.admin.panel.needs import Desk
from worker.admin.panel.notes import Notes


def serve_panel(app: FastAPI, desk: Desk, notes: Notes) -> None:
    """Serve the panel's pages beside the app's routes, and show refusals below `/panel` as pages."""
    from worker.admin.panel.entrance import page_problem
    from worker.admin.panel.pages import ROUTERS
    from worker.admin.panel.working import Working

    app.state.desk = desk
    app.state.notes = notes
    app.state.working = Working()
    app.state.page_problem = page_problem
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
