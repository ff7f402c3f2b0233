"""Getting in: guesses, sessions and their cookies, other sites' forms, an issuer of OpenID Connect, an open machine."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.requests import Request
from starlette.testclient import TestClient

from tests.unit.desk import panel
from tests.unit.serving import NOON, TOKENS, FakeStore, client, served
from worker.admin.app import add
from worker.admin.credentials import PREFIX, digest
from worker.admin.limits import Bucket, Failures
from worker.admin.oidc import Oidc
from worker.admin.roles import FORM, JSON, Role, least
from worker.admin.routes import By, guarded_router
from worker.admin.sessions import csrf_token
from worker.app.admin import refuse_open
from worker.config import load_settings
from worker.errors import OperatorError
from worker.store.admin import LiveToken

MINUTE = 60_000_000


def changing(app: FastAPI) -> FastAPI:
    """The app with a route that changes something, and one that says who asks."""
    router = guarded_router()

    @router.get("/me")
    @least(Role.READER)
    async def me(actor: By, request: Request) -> dict[str, str]:
        return {"name": actor.name, "role": actor.role, "via": actor.via, "csrf": csrf_token(request)}

    @router.post("/change")
    @least(Role.READER, accepts=(*JSON, *FORM))
    async def change(actor: By) -> str:
        return actor.name

    add(app, router)
    return app


def logged_in(app: FastAPI, role: Role = Role.ADMIN, **options: Any) -> TestClient:
    """A browser that has logged in with the token of a role."""
    browser = client(app, **options)
    answer = browser.post("/panel/login", data={"token": TOKENS[role]})
    assert answer.status_code == 303, answer.text
    return browser


# ---------------------------------------------------------------- guesses


def test_a_thousand_guesses() -> None:
    """Of a thousand wrong tokens 20 are looked at, the rest is 429 with Retry-After; other addresses go on."""
    app = served()
    stranger = client(app, host="10.0.0.1")
    statuses = [
        stranger.get("/openapi.json", headers={"Authorization": f"Bearer {PREFIX}{number}"}).status_code
        for number in range(1000)
    ]
    assert (statuses[:20], set(statuses[20:])) == ([401] * 20, {429})
    answer = stranger.get("/openapi.json", headers={"Authorization": "Bearer x"})
    assert 0 < int(answer.headers["retry-after"]) <= 70
    assert client(app, Role.READER, host="10.0.0.2").get("/openapi.json").status_code == 200


def test_guessing_the_token_of_the_settings() -> None:
    """After 20 failures the token that a person thought up is no longer taken, known random ones are."""
    app = served(admin_token="secret")
    asking = client(app)
    for number in range(20):
        asking.get("/openapi.json", headers={"Authorization": f"Bearer {number}"})
    assert asking.get("/openapi.json", headers={"Authorization": "Bearer secret"}).status_code == 429
    assert client(app, Role.READER).get("/openapi.json").status_code == 200


def test_failures_are_forgotten_after_a_minute() -> None:
    """The count of an address is that of the last minute, and of up to ten seconds more, drawn for each failure."""
    now, drawn = [0.0], iter([0.0, 0.0, 0.5, 1.0])
    failures = Failures(2, clock=lambda: now[0], chance=lambda: next(drawn))
    failures.note("a")
    now[0] = 30.0
    failures.note("a")
    assert (failures.wait("a"), failures.wait("b")) == (30.0, 0.0)
    now[0] = 60.5
    assert failures.wait("a") == 0.0
    for _ in range(2):
        failures.note("b")
    assert failures.wait("b") == 65.0
    waits = set()
    for _ in range(20):
        failures = Failures(1, clock=lambda: now[0])
        failures.note("a")
        waits.add(failures.wait("a"))
    assert len(waits) > 1
    assert 60 <= min(waits) <= max(waits) <= 70


def test_rate_of_a_token() -> None:
    """BADGES_RATE_LIMIT bounds each token by itself; 429 says when to come again."""
    app = served(rate_limit="3/h")
    asking = client(app, Role.READER)
    assert [asking.get("/openapi.json").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert int(asking.get("/openapi.json").headers["retry-after"]) > 1000
    assert client(app, Role.AUTHOR).get("/openapi.json").status_code == 200


def test_bucket_refills_evenly() -> None:
    """A bucket lets its count pass at once, then so many as the time gives back; off lets all pass."""
    now = [0.0]
    bucket = Bucket.of("2/s", clock=lambda: now[0])
    assert [bucket.take("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] = 0.5
    assert [bucket.take("a"), bucket.take("a")] == [0.0, 0.5]
    assert {Bucket.of("off").take("a") for _ in range(1000)} == {0.0}


def test_memory_of_limits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses and tokens come, what is kept of them is bounded."""
    monkeypatch.setattr("worker.admin.limits._MOST_KEYS", 10)
    failures, bucket = Failures(), Bucket.of("1/h")
    for number in range(100):
        failures.note(str(number))
        bucket.take(str(number))
    assert (len(failures._times), len(bucket._left)) == (10, 10)


# ---------------------------------------------------------------- tokens


def test_revoked_token_ends() -> None:
    """A token that was revoked stops working within seconds, and so does a session begun with it."""
    store = FakeStore()
    app = changing(panel(store=store))
    book = app.state.gate.book
    now = [0.0]
    book._table._clock = lambda: now[0]
    asking, browser = client(app, Role.SUPPORT), logged_in(app, Role.SUPPORT)
    assert [asking.get("/me").status_code, browser.get("/me").status_code] == [200, 200]
    store.tokens = [token for token in store.tokens if token.role != "support"]
    now[0] = 5.1
    assert [asking.get("/me").status_code, browser.get("/me").status_code] == [401, 401]


def test_new_token_works_at_once() -> None:
    """A token made a moment ago is known at once, though the book of tokens was just read."""
    store = FakeStore()
    app = changing(served(store))
    assert client(app, Role.READER).get("/me").status_code == 200
    store.tokens.append(LiveToken(99, "new", "reader", digest(f"{PREFIX}new")))
    assert client(app).get("/me", headers={"Authorization": f"Bearer {PREFIX}new"}).json()["name"] == "new"


def test_use_is_noted_now_and_then() -> None:
    """That a token is used is written down, once a minute at most."""
    store = FakeStore()
    app = changing(served(store))
    now = [0.0]
    app.state.gate.book._clock = app.state.gate.book._table._clock = lambda: now[0]
    app.state.gate.book._touched_at = 0.0
    asking = client(app, Role.READER)
    asking.get("/me")
    assert store.touched == set()
    now[0] = 61.0
    asking.get("/me")
    assert store.touched == {1}


# ---------------------------------------------------------------- sessions


def cookie(browser: TestClient) -> Any:
    """The session's cookie."""
    (found,) = browser.cookies.jar
    return found


def test_cookie_of_a_session() -> None:
    """The cookie is HttpOnly, SameSite=Lax, Secure and bound to the host; only on loopback HTTP it is not Secure."""
    answer = client(panel(), base_url="https://badges.example").post("/panel/login", data={"token": TOKENS[Role.ADMIN]})
    said = answer.headers["set-cookie"]
    assert said.startswith("__Host-badges=")
    for part in ("HttpOnly", "SameSite=Lax", "Secure", "Path=/"):
        assert f"; {part}" in said
    assert "Domain" not in said
    local = client(panel()).post("/panel/login", data={"token": TOKENS[Role.ADMIN]}).headers["set-cookie"]
    assert local.startswith("badges=")
    assert "Secure" not in local
    assert "; HttpOnly; SameSite=Lax" in local
    for other in ({"base_url": "http://badges.example"}, {"host": "10.0.0.1"}):
        said = client(panel(), **other).post("/panel/login", data={"token": TOKENS[Role.ADMIN]}).headers["set-cookie"]
        assert "; Secure" in said


def test_session_is_new_at_login() -> None:
    """Nothing of a session from before the log-in goes on: neither its cookie nor its CSRF token."""
    app = changing(panel())
    browser = logged_in(app, Role.READER)
    first, csrf = cookie(browser).value, browser.get("/me").json()["csrf"]
    browser.post("/panel/login", data={"token": TOKENS[Role.ADMIN]})
    assert cookie(browser).value != first
    assert browser.get("/me").json()["csrf"] != csrf
    assert browser.get("/me").json()["role"] == "admin"


def test_forged_cookie() -> None:
    """A cookie that is not signed, signed by another, cut or too long is nobody's."""
    app, other = changing(panel()), changing(panel())
    good = cookie(logged_in(other)).value
    for value in (good, good[:-2], "x", "x" * 5000, "e30.aaaaaa.bbbb"):
        assert client(app, cookies={"badges": value}).get("/me").status_code == 401


@pytest.mark.parametrize(("steps", "status"), [([14, 14, 14], 200), ([16], 401), ([14] * 52, 401)])
def test_session_ends(steps: list[int], status: int) -> None:
    """A session ends after 15 minutes without a request, and after 12 hours with however many."""
    app = changing(panel(admin_token="secret"))
    clock = app.state.services.now
    browser = logged_in(app)
    answers = []
    for minutes in steps:
        clock.at += minutes * MINUTE
        answers.append(browser.get("/me").status_code)
    assert answers[-1] == status


def test_session_of_the_settings_token_ends_with_it() -> None:
    """A session begun with BADGES_ADMIN_TOKEN ends where the settings have none any more."""
    app = changing(panel(admin_token="secret", session_secret="s"))
    browser = client(app)
    browser.post("/panel/login", data={"token": "secret"})
    assert browser.get("/me").status_code == 200
    later = changing(panel(session_secret="s"))
    assert client(later, cookies={"badges": cookie(browser).value}).get("/me").status_code == 401


# ---------------------------------------------------------------- other sites


@pytest.mark.parametrize("kind", ["json", "form", "text"])
def test_a_foreign_form_changes_nothing(kind: str) -> None:
    """With the session's cookie alone no change is made: without its CSRF token every kind of body is 403."""
    browser = logged_in(changing(panel()))
    body: dict[str, Any] = {
        "json": {"json": {}},
        "form": {"data": {"a": "b"}},
        "text": {"content": "{}", "headers": {"Content-Type": "text/plain"}},
    }[kind]
    answer = browser.post("/change", **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf")


def test_own_forms_change() -> None:
    """With its CSRF token a session makes changes, by field or by header; another session's token is none."""
    app = changing(panel())
    browser, other = logged_in(app), logged_in(app)
    csrf = browser.get("/me").json()["csrf"]
    assert browser.post("/change", data={"csrf_token": csrf}).status_code == 200
    assert browser.post("/change", headers={"X-CSRF-Token": csrf}).status_code == 200
    assert browser.post("/change", headers={"X-CSRF-Token": other.get("/me").json()["csrf"]}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://localhost:9999"},
     {"Origin": "null"}],
)  # fmt: skip
def test_what_another_site_sends(headers: dict[str, str]) -> None:
    """What the browser says comes from another site or port is 403, even with the right CSRF token."""
    browser = logged_in(changing(panel()))
    csrf = browser.get("/me").json()["csrf"]
    assert browser.post("/change", headers={"X-CSRF-Token": csrf, **headers}).status_code == 403
    assert browser.post("/panel/login", data={"token": TOKENS[Role.ADMIN]}, headers=headers).status_code == 403


def test_nothing_changes_by_reading() -> None:
    """No address that changes something is read by GET: every route that is not safe asks for a role."""
    for route in served().routes:
        if set(route.methods) - {"GET", "HEAD"}:  # type: ignore[attr-defined]
            assert "GET" not in route.methods  # type: ignore[attr-defined]


# ---------------------------------------------------------------- a machine of one's own


def test_open_until_there_is_a_token() -> None:
    """On loopback, where no token was ever made, this machine is admin; with the first token that is over."""
    store = FakeStore(tokens=[])
    app = changing(served(store))
    assert client(app).get("/me").json().items() >= {"role": "admin", "via": "open"}.items()
    store.tokens = FakeStore().tokens
    app.state.gate.book._table._read_at = None
    assert client(app).get("/me").status_code == 401


@pytest.mark.parametrize(
    "other",
    [{"host": "10.0.0.1"}, {"base_url": "http://badges.example:8080"}, {"base_url": "https://localhost"}],
)
def test_open_only_to_this_machine(other: dict[str, str]) -> None:
    """Neither another machine, nor a name that only points here (DNS rebinding), nor a proxy is let in openly."""
    assert client(changing(served(FakeStore(tokens=[]))), **other).get("/me").status_code == 401


def test_open_to_own_pages_only() -> None:
    """A page of another site changes nothing on an open machine."""
    asking = client(changing(served(FakeStore(tokens=[]))))
    assert asking.post("/change", json={}).status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert asking.post("/change", json={}, headers=headers).status_code == 403


@pytest.mark.parametrize("how", [{"admin_token": "x"}, {"admin_host": "0.0.0.0"}])
def test_not_open(how: dict[str, str]) -> None:
    """Where the settings have a token, or others can reach the port, nobody is let in without one."""
    assert client(changing(served(FakeStore(tokens=[]), **how))).get("/me").status_code == 401


async def test_refuses_to_start_in_the_open() -> None:
    """On an address that others reach it does not start before there is a token, a secret or an issuer."""
    store: Any = FakeStore(tokens=[])
    with pytest.raises(OperatorError, match=r"0\.0\.0\.0"):
        await refuse_open(store, load_settings(admin_host="0.0.0.0"))
    for fine in ({"admin_host": "127.0.0.1"}, {"admin_host": "0.0.0.0", "admin_token": "x"}):
        await refuse_open(store, load_settings(**fine))
    await refuse_open(FakeStore(), load_settings(admin_host="0.0.0.0"))  # type: ignore[arg-type]


# ---------------------------------------------------------------- OpenID Connect

ISSUER = "https://login.example"
KEY = RSAKey.generate_key(2048, parameters={"kid": "k"})
SETTINGS = {
    "oidc_issuer": ISSUER,
    "oidc_client_id": "badges",
    "oidc_client_secret": "canary-secret",
    "oidc_role_claim": "realm_access.roles",
    "oidc_roles": "badges-admins=admin,helpdesk=support",
}


class Issuer:
    """An issuer in memory: what it says of a person and how it signs are a test's to change."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {
            "sub": "42",
            "preferred_username": "anna",
            "realm_access": {"roles": ["helpdesk"]},
        }
        self.nonce: str | None = None
        self.key: Any = KEY
        self.algorithm = "RS256"
        self.issuer = ISSUER
        self.changed: dict[str, str] = {}
        self.asked: dict[str, list[str]] = {}
        self.app = FastAPI()

        @self.app.get("/.well-known/openid-configuration")
        async def metadata() -> dict[str, Any]:
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/keys",
                **self.changed,
                "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            }

        @self.app.get("/keys")
        async def keys() -> dict[str, Any]:
            return {"keys": [KEY.as_dict(private=False)]}

        @self.app.post("/token")
        async def token(request: Request) -> JSONResponse:
            self.asked = parse_qs((await request.body()).decode())
            claims = {
                "iss": ISSUER,
                "aud": "badges",
                "exp": 4_000_000_000,
                "iat": NOON // 1_000_000,
                "nonce": self.nonce,
                **self.claims,
            }
            header = {"alg": self.algorithm, "kid": "k"}
            return JSONResponse(
                {
                    "access_token": "a",
                    "token_type": "Bearer",
                    "id_token": jwt.encode(header, claims, self.key, algorithms=[self.algorithm]),
                }
            )


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def signing_in(issuer: Issuer) -> tuple[TestClient, dict[str, list[str]]]:
    """A browser at the issuer, and what it was sent there with."""
    app = changing(panel(**SETTINGS))
    app.state.oidc = Oidc(load_settings(**SETTINGS), transport=httpx2.ASGITransport(app=issuer.app))
    browser = client(app, base_url="https://badges.example")
    answer = browser.get("/panel/oidc?next=/panel/catalog")
    assert answer.status_code == 302, answer.text
    sent = parse_qs(urlsplit(answer.headers["location"]).query)
    issuer.nonce = sent["nonce"][0]
    return browser, sent


def test_oidc(issuer: Issuer) -> None:
    """Code flow with PKCE, state and nonce: the person comes back with the role that the claim gives."""
    browser, sent = signing_in(issuer)
    assert sent["code_challenge_method"] == ["S256"]
    assert sent["redirect_uri"] == ["https://badges.example/panel/oidc/callback"]
    answer = browser.get(f"/panel/oidc/callback?code=c&state={sent['state'][0]}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/panel/catalog"), answer.text
    assert browser.get("/me").json().items() >= {"name": "anna", "role": "support", "via": "session"}.items()
    assert issuer.asked["code_verifier"]


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/latest", "http://localhost/x", "file:///etc/passwd", "[", ""]
)
def test_an_issuer_leads_nowhere_else(issuer: Issuer, name: str, address: str) -> None:
    """An issuer that names an address which is not https is not asked there, and nobody is sent there."""
    issuer.changed = {name: address}
    app = changing(panel(**SETTINGS))
    app.state.oidc = Oidc(load_settings(**SETTINGS), transport=httpx2.ASGITransport(app=issuer.app))
    assert client(app, base_url="https://badges.example").get("/panel/oidc").status_code == 503


@pytest.mark.parametrize("fault", ["state", "nonce", "audience", "expired", "hs256", "other key", "issuer", "denied"])
def test_oidc_refuses(issuer: Issuer, fault: str) -> None:
    """A forged state, another nonce, audience, issuer or key, an old token and one signed with a secret are 401."""
    browser, sent = signing_in(issuer)
    state, query = sent["state"][0], "code=c"
    match fault:
        case "state":
            state = "forged"
        case "nonce":
            issuer.nonce = "other"
        case "audience":
            issuer.claims["aud"] = "somebody"
        case "expired":
            issuer.claims["exp"] = 1_000_000_000
        case "issuer":
            issuer.claims["iss"] = "https://evil.example"
        case "hs256":
            issuer.algorithm = "HS256"
            issuer.key = OctKey.import_key(json.dumps(KEY.as_dict(private=False)))
        case "other key":
            issuer.key = RSAKey.generate_key(2048, parameters={"kid": "k"})
        case "denied":
            query = "error=access_denied"
    answer = browser.get(f"/panel/oidc/callback?{query}&state={state}", headers={"Accept": "application/json"})
    assert answer.status_code in (303, 401), answer.text
    assert "canary" not in answer.text
    assert browser.get("/me").status_code == 401


def test_oidc_without_a_role(issuer: Issuer) -> None:
    """Who has no role here is told so, and not let in."""
    issuer.claims["realm_access"] = {"roles": ["admin", "other"]}
    browser, sent = signing_in(issuer)
    assert browser.get(f"/panel/oidc/callback?code=c&state={sent['state'][0]}").status_code == 403
    assert browser.get("/me").status_code == 401


def test_oidc_of_an_issuer_that_is_another(issuer: Issuer) -> None:
    """An issuer that calls itself otherwise is not gone to."""
    issuer.issuer = "https://evil.example"
    app = panel(**SETTINGS)
    app.state.oidc = Oidc(load_settings(**SETTINGS), transport=httpx2.ASGITransport(app=issuer.app))
    assert client(app, base_url="https://badges.example").get("/panel/oidc").status_code == 503


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"roles": ["reader", "support", "author"]}, Role.AUTHOR),
        ({"roles": "reader admin"}, Role.ADMIN),
        ({"roles": [1, None]}, None),
        ({}, None),
    ],
)
def test_roles_by_their_own_names(claims: dict[str, Any], role: Role | None) -> None:
    """Without a mapping the claim's values are the roles' names; of several the first of the order counts."""
    oidc = Oidc(load_settings(oidc_issuer=ISSUER, oidc_client_id="badges"))
    if role is None:
        with pytest.raises(Exception, match="has no role"):
            oidc.actor(claims | {"sub": "1"})
    else:
        assert oidc.actor(claims | {"sub": "1"}).role == role


@pytest.mark.parametrize("wrong", [{"oidc_issuer": "http://login.example"}, {"oidc_client_id": None}])
def test_oidc_settings(wrong: dict[str, Any]) -> None:
    """An issuer in the clear, and one without a client, are refused at the start."""
    with pytest.raises(OperatorError, match="BADGES_OIDC"):
        Oidc(load_settings(**(SETTINGS | wrong)))


@pytest.mark.parametrize("address", ["https://evil.example/panel/", "//evil.example/panel/", "/\\evil.example", "/api"])
def test_no_way_out(address: str, issuer: Issuer) -> None:
    """After log-in one lands in the panel, whatever address a link asked for."""
    app = changing(panel(**SETTINGS))
    app.state.oidc = Oidc(load_settings(**SETTINGS), transport=httpx2.ASGITransport(app=issuer.app))
    browser = client(app, base_url="https://badges.example")
    sent = parse_qs(urlsplit(browser.get("/panel/oidc", params={"next": address}).headers["location"]).query)
    issuer.nonce = sent["nonce"][0]
    answer = browser.get(f"/panel/oidc/callback?code=c&state={sent['state'][0]}")
    assert answer.headers["location"] == "/panel/"
