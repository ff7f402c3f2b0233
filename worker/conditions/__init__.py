"""Runs conditions in JavaScript: a door to a child process that can be killed; the only room with an engine.

`door` says what is asked and what becomes of a fault, `process` is the child as its parent sees it, `child` the child.
"""

from __future__ import annotations

from worker.conditions.door import Asked, Door, Tell, Told
from worker.conditions.process import check_engine

__all__ = ["Asked", "Door", "Tell", "Told", "check_engine"]
