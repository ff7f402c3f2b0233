"""Which connections would carry data or passwords in the clear, and are refused at start (off this machine)."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import parse_qs, unquote, urlsplit

from worker.config.settings import Settings


def transport_refusals(settings: Settings) -> list[str]:
    """Why a worker must not start: one sentence each, empty where all is well.

    Plaintext Kafka, and PostgreSQL without `sslmode=verify-full`, are refused unless every host is a loopback address
    or a Unix socket, or `BADGES_ALLOW_INSECURE` holds `plaintext`.
    """
    if "plaintext" in settings.allow_insecure:
        return []
    refusals = []
    exposed = [server for server in settings.kafka_bootstrap_servers.split(",") if not _is_local(_host_of(server))]
    if exposed and not settings.kafka_security_protocol.endswith("SSL"):
        refusals.append(
            f"Kafka at {exposed[0]} would be spoken to in the clear: set BADGES_KAFKA_SECURITY_PROTOCOL to SASL_SSL "
            "or SSL, or BADGES_ALLOW_INSECURE=plaintext where the network is trusted."
        )
    if settings.database_url is not None:
        host = _exposed_database_host(settings.database_url.get_secret_value())
        if host is not None:
            refusals.append(
                f"PostgreSQL at {host} might be spoken to in the clear: add sslmode=verify-full to "
                "BADGES_DATABASE_URL, or set BADGES_ALLOW_INSECURE=plaintext where the network is trusted."
            )
    return refusals


def shown_address(dsn: str) -> str:
    """`host:port/database` of a database's address, without user, password and options: fit for logs and messages."""
    parts = urlsplit(dsn)
    host = unquote(parts.netloc.rpartition("@")[2]) or parse_qs(parts.query).get("host", ["localhost"])[-1]
    return f"{host}{parts.path}"


def _exposed_database_host(dsn: str) -> str | None:
    """The first host off this machine that the driver would speak to without a checked certificate."""
    parts = urlsplit(dsn)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if query.get("sslmode", os.environ.get("PGSSLMODE", "")) == "verify-full":
        return None
    if "service" in query or "PGSERVICE" in os.environ:
        return "the service of pg_service.conf"
    named = unquote(parts.netloc.rpartition("@")[2]) or query.get("host", os.environ.get("PGHOST", ""))
    return next((host for host in map(_host_of, named.split(",")) if not _is_local(host)), None)


def _host_of(server: str) -> str:
    """The host of `host`, `host:port`, `[::1]:port` or `/folder/of/socket`."""
    if server.startswith("["):
        return server[1:].partition("]")[0]
    return server if server.count(":") > 1 else server.partition(":")[0]


def _is_local(host: str) -> bool:
    return not host or host.startswith(("/", "@")) or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost`, `127.0.0.1`, `::1`."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
