"""The HTTP application: who is let in, refusals in one shape, what every answer tells the browser."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from tests.unit.serving import TOKENS, FakeStore, client, served
from worker.admin.app import add
from worker.admin.openapi import described, guarded_routes
from worker.admin.roles import Role, anybody, includes, least
from worker.admin.routes import By, guarded_router
from worker.errors import AuthorError, Fault, OperatorError, TransientError


class Thing(BaseModel):
    """A body."""

    name: str
    parts: list[int] = []


def probing(app: FastAPI, *, error: Exception | None = None) -> FastAPI:
    """The app with one route more, which echoes or fails."""
    router = guarded_router()

    @router.post("/probe")
    @least(Role.AUTHOR)
    async def probe(thing: Thing, actor: By) -> dict[str, Any]:
        if error is not None:
            raise error
        return {"name": thing.name, "by": actor.name}

    @router.get("/probe")
    @least(Role.READER)
    async def look(limit: int = 1) -> int:
        return limit

    add(app, router)
    return app


def refusal(answer: Any) -> tuple[int, str]:
    """Status and code of an answer that must be a refusal in the one shape."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["message"].endswith(".")
    return answer.status_code, body["error"]["code"]


# ---------------------------------------------------------------- health


def test_health() -> None:
    """The API is healthy where the database answers, and says so to anybody; else it is 503 with Retry-After."""
    store = FakeStore()
    asking = client(served(store))
    assert (asking.get("/health").status_code, asking.get("/health").json()) == (200, {"status": "healthy"})
    store.broken = TransientError("PostgreSQL cannot be reached.")
    answer = asking.get("/health")
    assert refusal(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_worker_never_imports_the_framework() -> None:
    """Neither a worker nor the command's other parts load FastAPI."""
    probe = "import sys, worker.app, worker.cli.tokens, worker.cli.admin; sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False, timeout=30).returncode == 0


# ---------------------------------------------------------------- who is let in


def test_every_route_declares_a_role() -> None:
    """No route is served without a declared role, and only health and the way in are open to anybody."""
    app = served()
    assert {route.path for route in guarded_routes(app)} == {getattr(route, "path", None) for route in app.routes}
    public = {route.path for route in guarded_routes(app) if route.admission.role is None}
    assert public <= {"/health", "/login", "/logout", "/login/oidc", "/login/oidc/callback"}


def test_route_without_a_role_cannot_be_made() -> None:
    """A route whose author forgot the role is refused when it is written, not when it is called."""
    router = guarded_router()

    async def forgotten() -> None:
        return None

    with pytest.raises(LookupError, match="declares no role"):
        router.get("/forgotten")(forgotten)


@pytest.mark.parametrize("has", list(Role))
def test_roles(has: Role) -> None:
    """Everybody reads; producer, support and author stand side by side; an admin may do all."""
    may = {wanted for wanted in Role if includes(has, wanted)}
    assert may == (set(Role) if has == Role.ADMIN else {Role.READER, has})


@pytest.mark.parametrize("role", [None, *Role])
def test_every_route_with_every_role(role: Role | None) -> None:
    """Without a token every route but the public ones is 401; with one whose role does not cover it, 403."""
    app = served()
    asking = client(app, role)
    for route in guarded_routes(app):
        wanted = route.admission.role
        for method in route.methods:
            path = route.path_format.replace("{", "").replace("}", "")
            status = asking.request(method, path).status_code
            if wanted is None:
                assert status not in (401, 403), path
            elif role is None:
                assert status == 401, path
            else:
                allowed = any(includes(role, one) for one in (wanted, *route.admission.others))
                assert (status == 403) == (not allowed), path
                assert status != 401, path


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer wrong", f"Token {TOKENS[Role.ADMIN]}", "Bearer bsk_admi"]
)
def test_wrong_token(header: str) -> None:
    """What is no known bearer token is 401 and says which header to send."""
    answer = client(served()).get("/openapi.json", headers={"Authorization": header})
    assert refusal(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_token_of_the_settings_is_admin() -> None:
    """BADGES_ADMIN_TOKEN is a token of role admin."""
    app = probing(served(FakeStore(tokens=[]), admin_token="open sesame"))
    answer = client(app).post("/probe", json={"name": "a"}, headers={"Authorization": "Bearer open sesame"})
    assert answer.json() == {"name": "a", "by": "admin token"}


# ---------------------------------------------------------------- refusals


def test_refusals_of_the_framework_have_the_shape() -> None:
    """Unknown addresses and methods, bodies that are no JSON, of another type or too large are refused in the shape."""
    asking = client(probing(served(max_body="1KiB")), Role.AUTHOR)
    json = {"Content-Type": "application/json"}
    assert refusal(asking.get("/nowhere")) == (404, "not_found")
    assert refusal(asking.delete("/health")) == (405, "method_not_allowed")
    assert asking.delete("/health").headers["allow"] == "GET"
    assert refusal(asking.post("/probe", content=b"{", headers=json)) == (400, "not_json")
    assert refusal(asking.post("/probe", content=b"a=b", headers={"Content-Type": "text/plain"})) == (
        415,
        "unsupported_media_type",
    )
    assert refusal(asking.post("/probe", content=b"x" * 1025, headers=json)) == (413, "too_large")
    assert refusal(asking.post("/probe", content=iter([b"x"] * 1025), headers=json)) == (413, "too_large")
    assert refusal(asking.get("/probe?limit=x")) == (422, "invalid")
    assert asking.get("/probe?limit=x").json()["error"]["details"][0]["path"] == "?limit"


def test_pointers_start_at_the_body() -> None:
    """A fault's path is a JSON pointer from the body's root; all faults come at once."""
    answer = client(probing(served()), Role.AUTHOR).post("/probe", json={"parts": [1, "x"]})
    assert refusal(answer) == (422, "invalid")
    assert {detail["path"] for detail in answer.json()["error"]["details"]} == {"/name", "/parts/1"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AuthorError([Fault("unknown_field", "/flow/scroe", "no field scroe.", help="write score")]), (422, "invalid")),
        (TransientError("PostgreSQL is away."), (503, "unavailable")),
        (OperatorError("The schema is behind.", help="run `badges db migrate`."), (503, "unavailable")),
        (ZeroDivisionError("secret"), (500, "internal")),
    ],
)
def test_errors_of_the_project(error: Exception, expected: tuple[int, str]) -> None:
    """The project's errors become refusals that say who must act; what was not foreseen says nothing of itself."""
    answer = client(probing(served(), error=error), Role.ADMIN).post("/probe", json={"name": "a"})
    assert refusal(answer) == expected
    assert "secret" not in answer.text


def test_a_token_is_asked_before_the_body_is_read() -> None:
    """Who has no token learns nothing about bodies: 401 comes before 400, 413, 415 and 422."""
    app = probing(served(max_body="1KiB"))
    for body in (b"{", b"x" * 2000, b'{"nam": 1}'):
        assert client(app).post("/probe", content=body).status_code == 401


# ---------------------------------------------------------------- headers


def test_headers_of_every_answer() -> None:
    """Every answer, refusals too, forbids foreign scripts, frames, guesses and caches."""
    for path in ("/health", "/nowhere", "/openapi.json"):
        headers = client(served()).get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


def test_description() -> None:
    """The API describes itself: each route's role, its refusals, no route left out."""
    found = client(served(), Role.READER).get("/openapi.json").json()
    assert found["openapi"].startswith("3.1")
    assert found["paths"]["/openapi.json"]["get"]["x-least-role"] == "reader"
    assert found["paths"]["/health"]["get"]["security"] == []
    assert found["paths"]["/api/v1/admin/recompute"]["post"]["x-roles"] == ["support", "author", "admin"]
    assert "401" in found["paths"]["/openapi.json"]["get"]["responses"]


@pytest.mark.parametrize("role", Role)
def test_the_description_tells_roles_truly(role: Role) -> None:
    """Each described route lets in exactly the roles it names, the least one among them."""
    app = served()
    asking = client(app, role)
    for path, methods in described(app)["paths"].items():
        for method, told in methods.items():
            refused = asking.request(method, path.replace("{", "").replace("}", "")).status_code in (401, 403)
            assert refused == (role.value not in told["x-roles"]), (method, path)
            assert told["x-least-role"] in (*told["x-roles"], None)


def test_open_declaration_is_kept() -> None:
    """A route for anybody is served without a token."""
    app, router = served(), guarded_router()

    @router.get("/open")
    @anybody()
    async def look() -> str:
        return "x"

    add(app, router)
    assert client(app).get("/open").json() == "x"
