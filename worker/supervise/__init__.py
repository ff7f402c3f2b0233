"""Several worker processes as one: a parent starts, watches, restarts and stops them, and adds their metrics up."""

from __future__ import annotations

from worker.supervise.channel import STARTING, Tether
from worker.supervise.parent import Supervisor

__all__ = ["STARTING", "Supervisor", "Tether"]
