"""Changes of the catalog on their way: compared with the one that rules, tried on all users, applied or left."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from worker.app.catalog import put_in_force
from worker.app.comparing import Difference, against_head, preview
from worker.app.looks import Look, Looks
from worker.events import json_text
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.store.postgres import PostgresStore


@dataclass(slots=True, kw_only=True)
class Proposal(Look):
    """One change: whose, where it was made, what it changes; with the look at whom it would concern."""

    actor: str
    back: str
    found: Difference


class Proposals:
    """The changes that people of this process look at."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._looks: Looks[Proposal] = Looks()

    async def propose(self, document: Mapping[str, Any], *, actor: str, back: str) -> Proposal:
        """Compare a document with the catalog that rules, and begin to try it. Raises AuthorError."""
        catalog, text, digest = await asyncio.to_thread(_loaded, document)
        found = await against_head(self._store, catalog, text, digest)
        made = Proposal(id=secrets.token_urlsafe(9), actor=actor, back=back, found=found)
        self._looks.keep(made)
        if not found.same:
            self._looks.begin(made, partial(preview, self._store, found, progress=made.told), name="panel preview")
        return made

    def proposal(self, proposal_id: str) -> Proposal | None:
        """One of them; None where it is forgotten."""
        return self._looks.get(proposal_id)

    async def apply(self, proposal: Proposal, *, actor: str, note: str) -> int:
        """Make it the catalog that rules; its version. Raises HeadMoved where another one rules by now."""
        found = proposal.found
        version = await put_in_force(
            self._store,
            found.new,
            found.document,
            found.digest,
            applied_by=actor,
            note=note,
            expected=0 if found.head is None else found.head.version,
        )
        self._looks.forget(proposal)
        return version


def _loaded(document: Mapping[str, Any]) -> tuple[Catalog, str, str]:
    text = json_text.dumps(document)
    return load_catalog([Source("catalog.json", text)]), text, sha256(text.encode()).hexdigest()
