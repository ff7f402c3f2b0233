"""How a token of the API is made, and the hash it is known by; nothing of the framework, for the command too."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

#: What every token of the table begins with, so that people and scanners of secrets know one when they see it.
PREFIX: Final = "bsk_"


def new_token() -> str:
    """A token of 256 random bits; only its hash is ever stored."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """The hash by which a token is known."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
