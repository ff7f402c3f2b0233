"""Settings: every one with its default as it would be written, read from the environment and `.env` only here."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, FilePath, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.config.notations import (
    DeadLetterLimit,
    Topics,
    parse_allowances,
    parse_dead_letter_limit,
    parse_dsn,
    parse_duration,
    parse_rate,
    parse_roles,
    parse_servers,
    parse_size,
    parse_topic,
    parse_topics,
)
from worker.errors import OperatorError

PREFIX = "BADGES_"
_SECRET_FILE_BYTES = 64 * 1024
_SECRETS = ("database_url", "kafka_sasl_password", "admin_token", "session_secret", "oidc_client_secret")

_Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=249)]
_Topic = Annotated[str, BeforeValidator(parse_topic)]
_Port = Annotated[int, Field(ge=0, le=65535)]


def _setting(default: Any, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, validate_default=True, **bounds)


def _folded(text: object) -> object:
    return text.strip().lower() if isinstance(text, str) else text


def _raised(text: object) -> object:
    return text.strip().upper() if isinstance(text, str) else text


class Settings(BaseSettings):
    """Every setting; frozen, and secrets never show in `repr`. Build it with `load_settings`."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    database_url: Annotated[SecretStr, BeforeValidator(parse_dsn)] | None = _setting(
        None, "PostgreSQL, as `postgresql://user@host:5432/database?sslmode=verify-full`"
    )
    kafka_bootstrap_servers: Annotated[str, BeforeValidator(parse_servers)] = _setting(
        "localhost:9092", "Kafka brokers to ask first: `host:port`, several parted by commas"
    )
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_raised)
    ] = _setting("PLAINTEXT", "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`")
    kafka_sasl_mechanism: (
        Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_raised)] | None
    ) = _setting(None, "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`")
    kafka_sasl_username: str | None = _setting(None, "User name for SASL")
    kafka_sasl_password: SecretStr | None = _setting(None, "Password for SASL")
    kafka_ssl_cafile: FilePath | None = _setting(None, "Certificates to trust (PEM); without it the system's")
    kafka_ssl_certfile: FilePath | None = _setting(None, "Client certificate (PEM)")
    kafka_ssl_keyfile: FilePath | None = _setting(None, "Key of the client certificate (PEM)")
    group_id: _Line = _setting("badges", "Consumer group")
    session_timeout_ms: int = _setting(
        10_000, "How long the group waits for a silent worker before its partitions move", ge=1_000, le=300_000
    )
    start: Annotated[Literal["beginning", "end"], BeforeValidator(_folded)] = _setting(
        "beginning", "Where a partition that was never read starts: `beginning` or `end`"
    )
    event_topics: Annotated[Topics, BeforeValidator(parse_topics)] = _setting(
        "badges.events", "Topics to read: names parted by commas, or one `^regex`"
    )
    award_topic: _Topic = _setting("badges.awards", "Topic of awards")
    dead_letter_topic: _Topic = _setting("badges.dead-letters", "Topic of records that cannot be processed")
    control_topic: _Topic = _setting("badges.control", "Topic of grants by hand and of scheduled events")
    catalog: Path | None = _setting(None, "Catalog file or folder, applied where the database holds none")
    catalog_managed: Annotated[Literal["database", "file"], BeforeValidator(_folded)] = _setting(
        "database", "`file`: a worker also applies a catalog file whose text was never a version"
    )
    batch_max_events: int = _setting(5000, "Most records in one transaction", ge=1, le=100_000)
    batch_max_ms: int = _setting(
        50,
        "Longest wait to fill a batch, in milliseconds; while another batch may run there is none",
        ge=0,
        le=60_000,
    )
    cache_bytes: Annotated[int, BeforeValidator(parse_size)] = _setting(
        "64MiB", "Memory of a worker for users' states, as `64MiB`"
    )
    max_future: Annotated[timedelta, BeforeValidator(parse_duration)] = _setting(
        "24h", "How far an event's time may lie ahead of its record's, as `24h`"
    )
    late_events_inline: int = _setting(
        10_000,
        "Longest log of a user that a late event reads again at once; longer ones are queued",
        ge=0,
        le=10_000_000,
    )
    dead_letter_limit: Annotated[DeadLetterLimit | None, BeforeValidator(parse_dead_letter_limit)] = _setting(
        "50%/60s",
        "Share of dead letters, of at least 1,000 records in a window, above which a worker takes no more; or `off`",
    )
    sweep_days: int = _setting(7, "In so many days the nightly sweep comes to every user", ge=1, le=365)
    schedule_rate: int = _setting(
        2_000, "Most events a second that scheduled jobs send to the control topic", ge=1, le=1_000_000
    )
    metrics_host: _Line = _setting("127.0.0.1", "Address of `/metrics`, `/livez`, `/readyz`; `0.0.0.0` for all")
    metrics_port: _Port = _setting(9464, "Their port; `0` takes a free one")
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_folded)] | None = _setting(
        None, "`json` or `console`; without it `console` on a terminal and `json` elsewhere"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_folded)] = _setting(
        "info", "`debug`, `info`, `warning` or `error`"
    )
    allow_insecure: Annotated[frozenset[str], BeforeValidator(parse_allowances)] = _setting(
        "", "Refusals to lift, for tests and demos: `fsync`, `plaintext`"
    )
    admin_host: _Line = _setting("127.0.0.1", "Address of the HTTP API")
    admin_port: _Port = _setting(8080, "Port of the HTTP API")
    admin_metrics_port: _Port = _setting(
        9466, "Port of the API's own `/metrics`, `/livez` and `/readyz`; `0` takes a free one"
    )
    admin_token: SecretStr | None = _setting(None, "A token of role admin")
    max_body: Annotated[int, BeforeValidator(parse_size)] = _setting(
        "4MiB", "Largest body of an HTTP request, but for a stream of events"
    )
    max_stream: Annotated[int, BeforeValidator(parse_size)] = _setting(
        "64MiB", "Largest stream of events in one HTTP request; a line may have 256 KiB, a stream 200,000 lines"
    )
    session_secret: SecretStr | None = _setting(
        None, "What sessions of the panel are signed with; without it they end with the process"
    )
    oidc_issuer: str | None = _setting(None, "OpenID Connect: address of the issuer")
    oidc_client_id: str | None = _setting(None, "OpenID Connect: id of the client")
    oidc_client_secret: SecretStr | None = _setting(None, "OpenID Connect: secret of the client")
    oidc_scope: _Line = _setting("openid profile email", "OpenID Connect: what is asked of the issuer")
    oidc_role_claim: _Line = _setting(
        "roles", "OpenID Connect: the claim with somebody's roles, as `realm_access.roles`"
    )
    oidc_roles: Annotated[tuple[tuple[str, str], ...], BeforeValidator(parse_roles)] = _setting(
        "", "OpenID Connect: which of its values is which role, as `badges-admins=admin,helpdesk=support`"
    )
    js: Annotated[Literal["off", "on"], BeforeValidator(_folded)] = _setting(
        "off", "Conditions in JavaScript: `on` runs them, in a process of their own"
    )
    js_batch_seconds: float = _setting(
        2.0, "Most seconds of a batch for them; events that are left then wait for the next batch", ge=0.1, le=30
    )
    rate_limit: Annotated[str, BeforeValidator(parse_rate)] = _setting("off", "HTTP requests of a token, as `100/s`")

    @property
    def dsn(self) -> str:
        """The database's address; OperatorError where there is none. It may hold a password: never log it."""
        if self.database_url is None:
            raise OperatorError(
                "BADGES_DATABASE_URL is not set.", help="set it to postgresql://user@host:5432/database"
            )
        return self.database_url.get_secret_value()

    @property
    def max_future_us(self) -> int:
        """`max_future` in microseconds."""
        return self.max_future // timedelta(microseconds=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        own = {self.award_topic, self.dead_letter_topic, self.control_topic}
        if len(own) < 3 or own & set(self.event_topics.names):
            raise ValueError(
                "BADGES_EVENT_TOPICS, BADGES_AWARD_TOPIC, BADGES_DEAD_LETTER_TOPIC and BADGES_CONTROL_TOPIC "
                "name one topic twice: give each its own"
            )
        if self.kafka_security_protocol.startswith("SASL_"):
            for field in ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password"):
                if getattr(self, field) is None:
                    protocol = self.kafka_security_protocol
                    raise ValueError(
                        f"{setting_name(field)} is not set: BADGES_KAFKA_SECURITY_PROTOCOL={protocol} needs it"
                    )
        if self.kafka_ssl_keyfile is not None and self.kafka_ssl_certfile is None:
            raise ValueError("BADGES_KAFKA_SSL_CERTFILE is not set: BADGES_KAFKA_SSL_KEYFILE needs it")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options of a command win over the environment, that over `.env`; secrets' files count as environment."""
        return init_settings, _Surroundings(settings_cls)


def setting_name(field: str) -> str:
    """The environment's name of a field: `group_id` is `BADGES_GROUP_ID`."""
    return PREFIX + field.upper()


def load_settings(**overrides: Any) -> Settings:
    """Read all settings: `overrides` (options of a command; None: not given), the environment, `.env`, defaults.

    Raises OperatorError that names every wrong setting, its fault and the remedy; a secret's value is never repeated.
    """
    try:
        return Settings(**{field: value for field, value in overrides.items() if value is not None})
    except ValidationError as error:
        faults = [_sentence(detail) for detail in error.errors(include_url=False)]
        raise OperatorError("; ".join(faults), help="see the table of settings in README.md") from None


class _Surroundings(PydanticBaseSettingsSource):
    """The environment over `.env`, and the files that `…_FILE` names; empty counts as not set."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not asked: `__call__` gives all fields at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        surroundings = surroundings_of()
        values: dict[str, Any] = {}
        for field in Settings.model_fields:
            text = surroundings.get(setting_name(field), "")
            if text.strip():
                values[field] = text
            if field in _SECRETS:
                values.update(_from_file(field, surroundings, given=field in values))
        return values


def surroundings_of(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The `BADGES_*` names of `.env` and, winning over it, of the environment (or of `environ` in its place).

    What an orchestrator injects for a service of the same name (`BADGES_METRICS_PORT=tcp://10.0.0.1:9464`) is left out.
    """
    file: Mapping[str, str | None] = {}
    if Path(".env").is_file():
        try:
            file = dotenv_values(".env")
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(f".env cannot be read: {error}", help="make it UTF-8 text, or remove it") from None
    merged = {**{name: text or "" for name, text in file.items()}, **(os.environ if environ is None else environ)}
    return {
        name: text
        for name, text in merged.items()
        if name.startswith(PREFIX) and not (name.endswith("_PORT") and re.match(r"(tcp|udp|sctp)://", text))
    }


def unknown_names(environ: Mapping[str, str] | None = None) -> list[tuple[str, str | None]]:
    """The `BADGES_*` names that are no setting, each with the nearest that is one (or None), sorted.

    `BADGES_TEST_*` and the `*_SERVICE_*`, `*_PORT_*` that orchestrators inject are left alone.
    """
    known = set(_known_names())
    return [
        (name, next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.75)), None))
        for name in sorted(surroundings_of(environ))
        if name not in known
        and not name.startswith(PREFIX + "TEST_")
        and not re.search(r"_SERVICE_(HOST|PORT)|_PORT_\d", name)
    ]


def _known_names() -> Iterator[str]:
    for field in Settings.model_fields:
        yield setting_name(field)
        if field in _SECRETS:
            yield setting_name(field) + "_FILE"


def _from_file(field: str, surroundings: Mapping[str, str], *, given: bool) -> dict[str, object]:
    name = setting_name(field) + "_FILE"
    path = surroundings.get(name, "").strip()
    if not path:
        return {}
    if given:
        raise OperatorError(f"{setting_name(field)} and {name} are both set.", help="set one of them")
    try:
        with Path(path).open("rb") as file:
            text = file.read(_SECRET_FILE_BYTES + 1)
        if len(text) > _SECRET_FILE_BYTES:
            raise OperatorError(f"{name}: {path} is larger than 64 KiB.", help="name the file that holds the secret")
        return {field: text.decode().rstrip("\r\n")}
    except OSError as error:
        raise OperatorError(f"{name}: {path}: {error.strerror}.", help="name a file this user may read") from None
    except UnicodeDecodeError:
        raise OperatorError(f"{name}: {path} is not UTF-8 text.", help="write the secret as text") from None


def _sentence(detail: ErrorDetails) -> str:
    """One fault in words: the setting, what it is (never a secret's value), what to write instead."""
    field = str(detail["loc"][0]) if detail["loc"] else ""
    remedy = detail["msg"].removeprefix("Value error, ")
    if not field:
        return remedy
    if field not in Settings.model_fields:
        return f"{setting_name(field)} is no setting"
    if detail["type"].startswith(("int_", "greater_than", "less_than")):
        remedy = _bounds(Settings.model_fields[field])
    elif detail["type"] == "literal_error":
        remedy = "write " + str(detail["ctx"]["expected"]).replace("'", "")
    elif detail["type"] == "path_not_file":
        remedy = "there is no such file"
    elif detail["type"].startswith("string_too"):
        remedy = "write 1 to 249 characters"
    shown = "is set to something else" if field in _SECRETS else f'is "{str(detail["input"])[:200]}"'
    return f"{setting_name(field)} {shown}: {remedy}"


def _bounds(info: FieldInfo) -> str:
    limits = {key: getattr(rule, key) for rule in info.metadata for key in ("ge", "le") if hasattr(rule, key)}
    return f"write a whole number from {limits['ge']} to {limits['le']}"
