"""Changes of the catalog on their way: compared with the one that rules, tried on all users, applied or left."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from worker.app.catalog import put_in_force
from worker.app.comparing import Difference, against_head, preview
from worker.errors import BadgesError
from worker.events import json_text
from worker.rules.catalog.definitions import Catalog
from worker.rules.catalog.document import Source
from worker.rules.catalog.load import load_catalog
from worker.rules.preview import Preview
from worker.store.postgres import PostgresStore

#: So many are kept; older ones are forgotten, and must be looked at again.
_KEPT: Final = 16


@dataclass(slots=True)
class Proposal:
    """One change: whose, where it was made, what it changes; and how far its look at the population is.

    `preview` is the result, `error` a sentence where there is none.
    """

    id: str
    actor: str
    back: str
    found: Difference
    done: int = 0
    total: int = 0
    events: int = 0
    preview: Preview | None = None
    error: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the population is still looked at."""
        return self.task is not None and not self.task.done()


class Proposals:
    """The changes that people of this process look at."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, Proposal] = OrderedDict()

    async def propose(self, document: Mapping[str, Any], *, actor: str, back: str) -> Proposal:
        """Compare a document with the catalog that rules, and begin to try it. Raises AuthorError."""
        catalog, text, digest = await asyncio.to_thread(_loaded, document)
        made = Proposal(secrets.token_urlsafe(9), actor, back, await against_head(self._store, catalog, text, digest))
        while len(self._kept) >= _KEPT:
            _, oldest = self._kept.popitem(last=False)
            if oldest.task is not None:
                oldest.task.cancel()
        self._kept[made.id] = made
        if not made.found.same:
            made.task = asyncio.create_task(self._look(made), name="panel preview")
        return made

    def proposal(self, proposal_id: str) -> Proposal | None:
        """One of them; None where it is forgotten."""
        return self._kept.get(proposal_id)

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
        self._kept.pop(proposal.id, None)
        return version

    async def _look(self, made: Proposal) -> None:
        def told(done: int, total: int, events: int) -> None:
            made.done, made.total, made.events = done, total, events

        try:
            made.preview, made.total = await preview(self._store, made.found, progress=told)
            made.done = made.total
        except BadgesError as error:
            made.error = error.message


def _loaded(document: Mapping[str, Any]) -> tuple[Catalog, str, str]:
    text = json_text.dumps(document)
    return load_catalog([Source("catalog.json", text)]), text, sha256(text.encode()).hexdigest()
