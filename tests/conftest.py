"""What every test has at hand: the fixtures of the rig."""

from __future__ import annotations

pytest_plugins = ["tests.rig.kafka"]
