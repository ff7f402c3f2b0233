"""Settings (prefix `BADGES_`): the one room that reads the environment."""

from worker.config.notations import DeadLetterLimit, Topics, parse_duration, parse_size
from worker.config.settings import Settings, load_settings, setting_name, surroundings_of, unknown_names
from worker.config.transport import is_loopback, shown_address, transport_refusals

__all__ = [
    "DeadLetterLimit",
    "Settings",
    "Topics",
    "is_loopback",
    "load_settings",
    "parse_duration",
    "parse_size",
    "setting_name",
    "shown_address",
    "surroundings_of",
    "transport_refusals",
    "unknown_names",
]
