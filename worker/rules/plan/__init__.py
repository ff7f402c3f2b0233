"""Definitions to a plan: event type to route, route to the folds that step and the badges that may newly hold.

`dispatch` finds the filters an event passes, `timing` says when a formula can become true, `identity` which folds are
one, `formula` turns formulas into functions, `keeping` gives each fold its memory and ladders, `compiler` puts them
together; `model` holds what comes out, `builds` says whether one plan can go on with the memories of another.
"""

from __future__ import annotations

from worker.rules.ir import counted
from worker.rules.plan.builds import definition_hash, meaning, memories_hash, needs_build
from worker.rules.plan.compiler import EVALUATED, asked_conditions, compile_plan
from worker.rules.plan.formula import Source, Subject, Tally, figures, held_since, mark_of, prerequisites
from worker.rules.plan.identity import fold_key
from worker.rules.plan.model import Gate, Goal, Memory, Plan, Route, context_of, scope_name, scope_of

__all__ = [
    "EVALUATED",
    "Gate",
    "Goal",
    "Memory",
    "Plan",
    "Route",
    "Source",
    "Subject",
    "Tally",
    "asked_conditions",
    "compile_plan",
    "context_of",
    "counted",
    "definition_hash",
    "figures",
    "fold_key",
    "held_since",
    "mark_of",
    "meaning",
    "memories_hash",
    "needs_build",
    "prerequisites",
    "scope_name",
    "scope_of",
]
