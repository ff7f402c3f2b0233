"""How every Kafka client is reached: address, security, deadlines; and what a failure to connect means, in words."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from worker.config import Settings
from worker.errors import BadgesError, OperatorError, TransientError
from worker.stream.internals import abandon

#: How long a first connection may take, seconds.
START_SECONDS = 20.0
#: How long a client may take to end, seconds; where its broker is down it hangs for ever (reliability 4.1 row 22).
STOP_SECONDS = 5.0
REQUEST_TIMEOUT_MS = 15_000
METADATA_MAX_AGE_MS = 60_000


class Client(Protocol):
    """What every client of aiokafka can do."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""


def client_options(settings: Settings) -> dict[str, Any]:
    """The options that consumer, producer and admin client share. Raises OperatorError for unusable certificates."""
    password = settings.kafka_sasl_password
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        "client_id": "badgestream",
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _ssl_context(settings) if settings.kafka_security_protocol.endswith("SSL") else None,
        "sasl_mechanism": settings.kafka_sasl_mechanism or "PLAIN",
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": password.get_secret_value() if password is not None else None,
    }


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
        if settings.kafka_ssl_certfile is not None:
            context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    except (OSError, ssl.SSLError) as error:
        raise OperatorError(
            f"The certificates for Kafka cannot be used: {error}.",
            help="check BADGES_KAFKA_SSL_CAFILE, BADGES_KAFKA_SSL_CERTFILE and BADGES_KAFKA_SSL_KEYFILE",
        ) from None
    return context


async def start_client(client: Client, settings: Settings, *, seconds: float = START_SECONDS) -> None:
    """Start a client within `seconds`; where that fails it is stopped and an OperatorError says what to do."""
    await connect(client.start(), client, settings, seconds=seconds)


async def connect(starting: Awaitable[None], client: Client, settings: Settings, *, seconds: float) -> None:
    """Await what connects `client`; see `start_client`."""
    with _Overheard() as heard:
        try:
            await asyncio.wait_for(starting, seconds)
        except (KafkaError, TimeoutError, OSError, ValueError) as error:
            await stop_quietly(client)
            raise cannot_connect(settings, error, heard.lines) from error
        except BaseException:
            await stop_quietly(client)
            raise


async def stop_quietly(client: Client, *, seconds: float = STOP_SECONDS) -> bool:
    """Stop a client within `seconds`, whatever it does; False where it had to be left behind.

    aiokafka's consumer can raise a CancelledError of its own out of `stop` and then leaves its connections open
    (reliability 4.1 row 13): only a cancellation of the calling task is passed on.
    """
    stopping = asyncio.ensure_future(client.stop())
    try:
        await asyncio.wait({stopping}, timeout=seconds)
    finally:
        clean = stopping.done() and not stopping.cancelled() and stopping.exception() is None
        if not stopping.done():
            stopping.cancel()
            stopping.add_done_callback(_forget)
        if not clean:
            await abandon(client)
    return clean


def _forget(task: asyncio.Future[None]) -> None:
    if not task.cancelled():
        task.exception()


@asynccontextmanager
async def admin_client(settings: Settings, *, seconds: float = START_SECONDS) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; what aiokafka raises inside the block is translated."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    closing = _Closing(admin)
    await connect(admin.start(), closing, settings, seconds=seconds)
    try:
        async with asyncio.timeout(seconds):
            yield admin
    except TimeoutError:
        raise TransientError(f"Kafka at {settings.kafka_bootstrap_servers} did not answer in {seconds:g} s.") from None
    except KafkaError as error:
        raise translate(error) from error
    finally:
        await stop_quietly(closing)


class _Closing:
    """An admin client with the verbs of the others."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def start(self) -> None:
        await self._admin.start()

    async def stop(self) -> None:
        await self._admin.close()


class _Overheard(logging.Handler):
    """Keeps what aiokafka logs while it connects: the cause of a failure stands only there (reliability 4.1 row 18)."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < 50:
            self.lines.append(record.getMessage())

    def __enter__(self) -> Self:
        logging.getLogger("aiokafka").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("aiokafka").removeHandler(self)


#: What is overheard, what it means, what to do about it; the first that fits is told.
_CAUSES = (
    (
        r"(?i)authentication|sasl|AuthenticationFailed",
        "refused the credentials",
        "check BADGES_KAFKA_SASL_USERNAME, BADGES_KAFKA_SASL_PASSWORD and BADGES_KAFKA_SASL_MECHANISM",
    ),
    (
        r"(?i)certificate|ssl|tls",
        "could not be spoken to over TLS",
        "check BADGES_KAFKA_SECURITY_PROTOCOL and BADGES_KAFKA_SSL_CAFILE",
    ),
    (
        r"(?i)refused|Connect call failed",
        "refused the connection",
        "start the broker, or set BADGES_KAFKA_BOOTSTRAP_SERVERS",
    ),
    (
        r"(?i)name or service|getaddrinfo|nodename|name resolution",
        "has a name that is not known",
        "check BADGES_KAFKA_BOOTSTRAP_SERVERS",
    ),
)


def cannot_connect(settings: Settings, error: BaseException, heard: list[str]) -> OperatorError:
    """The sentence for a Kafka that cannot be reached."""
    text = "\n".join([*heard, repr(error)])
    for pattern, meaning, remedy in _CAUSES:
        if re.search(pattern, text):
            return OperatorError(f"Kafka at {settings.kafka_bootstrap_servers} {meaning}.", help=remedy)
    return OperatorError(
        f"Kafka at {settings.kafka_bootstrap_servers} did not answer.",
        help="check that it runs and that BADGES_KAFKA_BOOTSTRAP_SERVERS and BADGES_KAFKA_SECURITY_PROTOCOL fit it",
    )


def translate(error: BaseException) -> BadgesError:
    """What an exception of aiokafka means: OperatorError where a person must act, TransientError where it may pass."""
    if isinstance(error, BadgesError):
        return error
    name = type(error).__name__
    if "Authorization" in name:
        return OperatorError(
            f"Kafka refused access ({name}: {error}).",
            help="grant the user of this worker its topics, its group and idempotent writes",
        )
    return TransientError(f"Kafka: {name}: {error}"[:500])
