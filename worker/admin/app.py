"""The HTTP application: its services, its guards, its routers."""

from __future__ import annotations

import secrets
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from worker.admin.admission import gate_of
from worker.admin.api import ROUTERS
from worker.admin.figures import Figures
from worker.admin.headers import SafeHeaders
from worker.admin.hot import Application
from worker.admin.oidc import Oidc
from worker.admin.oidc import router as oidc_router
from worker.admin.panel import serve_panel
from worker.admin.panel.needs import Desk
from worker.admin.panel.notes import Notes
from worker.admin.problems import shape_problems
from worker.admin.services import Services
from worker.admin.sessions import Sessions
from worker.config import Settings
from worker.metrics import HttpMetrics


def build(
    services: Services, settings: Settings, *, desk: Desk | None = None, metrics: HttpMetrics | None = None
) -> FastAPI:
    """The application over these services, with the panel where there is a desk for it.

    `app.state` holds `services`, `settings`, `gate` and `metrics`.
    """
    given = settings.session_secret
    secret = given.get_secret_value() if given else secrets.token_urlsafe(32)
    metrics = metrics or HttpMetrics()
    metrics.listeners.set_function(lambda: services.awards.listeners)
    app = Application(
        Figures(metrics),
        title="badgestream",
        version=version("badgestream"),
        summary="Events in, badges out; the catalog of badges.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # a body without a type is read as JSON: changes from browsers show their CSRF token or their origin instead
        strict_content_type=False,
        redirect_slashes=False,
        middleware=[
            Middleware(SafeHeaders),
            Middleware(Sessions, secret=secret),
        ],
    )
    app.state.services = services
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.gate = gate_of(services, settings)
    app.state.oidc = None if settings.oidc_issuer is None else Oidc(settings)
    shape_problems(app)
    for router in ROUTERS:
        add(app, router)
    if desk is not None:
        add(app, oidc_router)
        serve_panel(app, desk, Notes(secret))
    app.shorten()
    return app


def add(app: FastAPI, router: APIRouter) -> None:
    """Serve a router's routes beside the others: one flat list, in which each is found, checked and described."""
    app.router.routes.extend(router.routes)
