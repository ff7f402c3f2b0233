"""Publishes granted awards and dead letters: in order per user, at least once, with stable ids.

Theory of operation. A row waits in the outbox until it is marked; a relay that holds the leases of some shards sends
their oldest rows in order, waits until all are stored, then marks them under the leases. Whatever goes wrong on the
way, nothing is guessed: the producer is thrown away and the rows are read and sent again, so a message may come twice,
with the same id. Two relays on one shard (one was frozen) do no harm: both send in order, so first copies are in order.
A message that no producer can send is searched for by halves, so that its neighbours go out, and is set aside alone.

A user's rows are all in one shard, so only within a shard must one wait for another. What is read together flies
together (send, then mark), and meanwhile the shards that are free are read and fly on their own, each flight with a
producer of its own: none waits for another, and none fails with another. A shard is not read before it has landed.
Where there is much to send, the relay waits until all have landed, so that work done per flight is not done per shard.

Reading order: `protocols`, `leases`, `flights`, `relay`.
"""

from worker.outbox.leases import LEASE_SECONDS, lease_name
from worker.outbox.protocols import OutboxStore, Publisher, RelayHooks
from worker.outbox.relay import Relay

__all__ = ["LEASE_SECONDS", "OutboxStore", "Publisher", "Relay", "RelayHooks", "lease_name"]
