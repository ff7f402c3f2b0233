"""The catalog as written to the catalog as used: what is derived, and everything that is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import AuthorError
from worker.rules.catalog.load import Source, catalog_from_document, load_catalog, read_catalog
from worker.rules.ir import Fold, Match

BASE = """
events:
  thing.done:
    aliases: [ThingDone]
    schema: {type: object, properties: {score: {type: integer}, item: {type: string}, deep: {properties: {x: {}}}}}
  thing.undone: {}
  user.logged_in: {}
metrics:
  things: {count: thing.done}
"""
SOME = "{key: a, flow: {event: thing.done}}"


def faults(text: str, base: str = BASE) -> list[tuple[str, str]]:
    """Code and pointer of every fault but the base's own warning."""
    merged: dict[str, Any] = yaml.load(base, yaml.BaseLoader) if base else {}
    extra = [Source("base.yaml", base), Source("extra.yaml", text)] if merged else [Source("extra.yaml", text)]
    found = read_catalog(extra)[1]
    return [
        (fault.code, fault.path) for fault in found if (fault.code, fault.path) != ("unused_metric", "/metrics/things")
    ]


def load(text: str):
    return load_catalog([Source("base.yaml", BASE), Source("extra.yaml", text)])


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ("bagdes: []", "unknown_key", "/bagdes"),
        ("version: 2", "bad_operand", "/version"),
        ("timezone: Mars/Phobos", "bad_operand", "/timezone"),
        ("feb_29: feb_27", "bad_operand", "/feb_29"),
        ("active_days: 0", "bad_operand", "/active_days"),
        ("catch_up_on_login: maybe", "bad_operand", "/catch_up_on_login"),
        ("badges: {key: a}", "bad_operand", "/badges"),
        ("badges: [a]", "bad_operand", "/badges/0"),
        ("badges: [{flow: {event: thing.done}}]", "missing_key", "/badges/0"),
        ("badges: [{kee: a, flow: {event: thing.done}}]", "unknown_key", "/badges/0/kee"),
        ("badges: [{key: A, flow: {event: thing.done}}]", "invalid_key", "/badges/0/key"),
        ("badges: [{key: _a, flow: {event: thing.done}}]", "invalid_key", "/badges/0/key"),
        (f"badges: [{{key: {'a' * 101}, flow: {{event: thing.done}}}}]", "invalid_key", "/badges/0/key"),
        (f"badges: [{SOME}, {SOME}]", "duplicate_key", "/badges/1/key"),
        ("badges: [{key: a}]", "no_test", "/badges/0"),
        ("badges: [{key: a, flow: }]", "flow_definition_required", "/badges/0/flow"),
        ("badges: [{key: a, flow: {event: thing.dnoe}}]", "unknown_event", "/badges/0/flow/event"),
        (
            "badges: [{key: a, flow: {event: thing.done, criteria: {scroe: 1}}}]",
            "unknown_field",
            "/badges/0/flow/criteria/scroe",
        ),
        (
            "badges: [{key: a, flow: {event: thing.done, criteria: {deep.y: 1}}}]",
            "unknown_field",
            "/badges/0/flow/criteria/deep.y",
        ),
        ("badges: [{key: a, flow: {event: thing.done}, per: itme}]", "unknown_field", "/badges/0/per"),
        ("badges: [{key: a, flow: {event: thing.done}, triggers: []}]", "no_trigger", "/badges/0/triggers"),
        (
            "badges: [{key: a, flow: {event: thing.done}, triggers: [thing.undone]}]",
            "trigger_mismatch",
            "/badges/0/triggers/0",
        ),
        ("badges: [{key: a, flow: {event: thing.done}, triggers: [x.y]}]", "unknown_event", "/badges/0/triggers/0"),
        (
            "badges: [{key: a, flow: {$timePeriod: {periodType: day}}, triggers: [cron.anniversary]}]",
            "trigger_mismatch",
            "/badges/0/triggers/0",
        ),
        (f"badges: [{SOME[:-1]}, status: gone}}]", "bad_operand", "/badges/0/status"),
        (f"badges: [{SOME[:-1]}, color: '#12345'}}]", "bad_operand", "/badges/0/color"),
        (f"badges: [{SOME[:-1]}, image_url: 'javascript:x'}}]", "bad_operand", "/badges/0/image_url"),
        (f"badges: [{SOME[:-1]}, revocable: yes}}]", "bad_operand", "/badges/0/revocable"),
        (f"badges: [{SOME[:-1]}, animation: {{}}}}]", "missing_key", "/badges/0/animation"),
        (
            f"badges: [{SOME[:-1]}, animation: {{kind: webm, url: 'javascript:alert(1)'}}}}]",
            "bad_operand",
            "/badges/0/animation/url",
        ),
        (
            f"badges: [{SOME[:-1]}, animation: {{kind: own, url: 'http://x/y'}}}}]",
            "bad_operand",
            "/badges/0/animation/url",
        ),
        (f"badges: [{SOME[:-1]}, animation: {{kind: webm}}}}]", "missing_key", "/badges/0/animation"),
        (
            f"badges: [{SOME[:-1]}, animation: {{kind: webm, url: 'https://x/y', src: 'https://x/y'}}}}]",
            "unknown_key",
            "/badges/0/animation/src",
        ),
        (f"badges: [{SOME[:-1]}, translations: {{'d e': {{}}}}}}]", "invalid_key", "/badges/0/translations/d e"),
        (f"badges: [{SOME[:-1]}, breaker: on}}]", "bad_operand", "/badges/0/breaker"),
        (f"badges: [{SOME[:-1]}, label: }}]", "bad_operand", "/badges/0/label"),
        (f"badges: [{SOME[:-1]}, sort_score: 1.5}}]", "bad_operand", "/badges/0/sort_score"),
        ("badges: [{key: a, flow: {badge: b}}]", "unknown_badge", "/badges/0/flow/badge"),
        ("badges: [{key: a, flow: {badge: a}}]", "cyclic_prerequisite", "/badges/0/flow"),
        ("badges: [{key: a, flow: {snapshot: {thigs: {$gte: 1}}}}]", "unknown_metric", "/badges/0/flow/snapshot/thigs"),
        ("badges: [{key: a, flow: {$not: {event: thing.done}}}]", "true_on_empty", "/badges/0/flow"),
        ("events: {done: {}}", "name_style", "/events/done"),
        ("events: {'a b': {}}", "invalid_key", "/events/a b"),
        ("events: {user.erased: {}}", "invalid_key", "/events/user.erased"),
        ("events: {cron.monthly: {}}", "invalid_key", "/events/cron.monthly"),
        ("events: {x.y: {aliases: [thing.done]}}", "duplicate_key", "/events/x.y/aliases/0"),
        ("events: {x.y: {aliases: [ThingDone]}}", "duplicate_key", "/events/x.y/aliases/0"),
        ("events: {x.y: {schema: {type: 5}}}", "invalid_schema", "/events/x.y/schema"),
        ("events: {x.y: {schema: [1]}}", "invalid_schema", "/events/x.y/schema"),
        ("events: {x.y: {schema: {$ref: 'https://example.com/x'}}}", "invalid_schema", "/events/x.y/schema"),
        ("events: {x.y: {noun: {one: a}}}", "missing_key", "/events/x.y/noun"),
        ("metrics: {m: {}}", "missing_key", "/metrics/m"),
        ("metrics: {m: {cuont: thing.done}}", "unknown_key", "/metrics/m/cuont"),
        ("metrics: {m: {count: thing.done, first: thing.done}}", "bad_operand", "/metrics/m"),
        ("metrics: {m: {count: x.y}}", "unknown_event", "/metrics/m/count"),
        ("metrics: {m: {count: thing.done, less: ThingDone}}", "bad_operand", "/metrics/m/less"),
        ("metrics: {m: {sum: score}}", "missing_key", "/metrics/m"),
        ("metrics: {m: {sum: scroe, event: thing.done}}", "unknown_field", "/metrics/m/sum"),
        ("metrics: {m: {count: thing.done, event: thing.done}}", "bad_operand", "/metrics/m/event"),
        ("metrics: {m: {count: thing.done, where: {scroe: 1}}}", "unknown_field", "/metrics/m/where/scroe"),
        (
            "metrics: {m: {count: thing.done, where: {$eventCount: 1}}}",
            "unknown_operator",
            "/metrics/m/where/$eventCount",
        ),
        ("metrics: {m: {count: thing.done, where: 5}}", "bad_operand", "/metrics/m/where"),
        ("metrics: {m: {count: thing.done, per: nope}}", "unknown_field", "/metrics/m/per"),
        ("metrics: {m: {count: thing.done, per: item, by: score}}", "bad_operand", "/metrics/m/by"),
        ("metrics: {m: {count: thing.done}}", "unused_metric", "/metrics/m"),
        ("metrics: {'5m': {count: thing.done}}", "invalid_key", "/metrics/5m"),
        ("ladders: [{key: l, metric: thigs, levels: [1, 2, 3]}]", "unknown_metric", "/ladders/0/metric"),
        ("ladders: [{key: l, metric: things, levels: []}]", "bad_levels", "/ladders/0/levels"),
        ("ladders: [{key: l, metric: things, levels: 5}]", "bad_levels", "/ladders/0/levels"),
        ("ladders: [{key: l, metric: things, levels: [0, 1]}]", "bad_levels", "/ladders/0/levels/0"),
        ("ladders: [{key: l, metric: things, levels: [1, 5, 5]}]", "bad_levels", "/ladders/0/levels/2"),
        ("ladders: [{key: l, metric: things, levels: [1, x]}]", "bad_levels", "/ladders/0/levels/1"),
        ("ladders: [{key: l, metric: things}]", "missing_key", "/ladders/0"),
        ("tenures: [{key: t, since: x.y, years: [1]}]", "unknown_event", "/tenures/0/since"),
        ("tenures: [{key: t, since: thing.done, years: [1, 1.5]}]", "bad_levels", "/tenures/0/years/1"),
        (
            "milestones: [{code: m, trigger_event: thing.done, rule_type: streak, rule_data: {}}]",
            "unknown_rule",
            "/milestones/0/rule_type",
        ),
        (
            "milestones: [{code: m, trigger_event: thing.done, rule_type: return_after_gap, rule_data: {gap_days: 3}}]",
            "bad_operand",
            "/milestones/0/trigger_event",
        ),
        (
            "milestones: [{code: m, trigger_event: thing.done, rule_type: count, rule_data: {field: x, threshold: 3}}]",
            "unknown_metric",
            "/milestones/0/rule_data/field",
        ),
        ("user_timezone: {event: x.y, field: zone}", "unknown_event", "/user_timezone/event"),
        ("user_timezone: {event: thing.done, field: zone}", "unknown_field", "/user_timezone/field"),
        ("retention: {x.y: 5y}", "unknown_event", "/retention/x.y"),
        ("retention: {thing.done: 5 years}", "bad_operand", "/retention/thing.done"),
        ("schedules: [{event: monthly, cron: '0 9 1 * *'}]", "bad_operand", "/schedules/0/event"),
        ("schedules: [{event: cron.monthly, cron: '0 9 1 *'}]", "bad_operand", "/schedules/0/cron"),
        ("schedules: [{event: cron.monthly, cron: '0 24 1 * *'}]", "bad_operand", "/schedules/0/cron"),
        ("schedules: [{event: cron.monthly, cron: '0 9-8 1 * *'}]", "bad_operand", "/schedules/0/cron"),
        ("schedules: [{event: cron.monthly, cron: '*/0 9 1 * *'}]", "bad_operand", "/schedules/0/cron"),
        ("schedules: [{event: cron.monthly, cron: '0 9 1 * fri-mon'}]", "bad_operand", "/schedules/0/cron"),
        ("holidays: {office: [2026-02-30]}", "bad_operand", "/holidays/office/0"),
        ("breaker: {factor: 0}", "bad_operand", "/breaker/factor"),
        ("condition_types: [{name: x}]", "missing_key", "/condition_types/0"),
        ("condition_types: [{name: x, source: a}, {name: x, source: b}]", "duplicate_key", "/condition_types/1/name"),
    ],
)
def test_each_fault_has_its_code_and_its_smallest_place(text: str, code: str, path: str):
    """A catalog with one thing wrong gives exactly that fault."""
    assert faults(text) == [(code, path)]


def test_all_faults_come_at_once_with_their_files_and_lines():
    """Faults of several sources and sections are reported together, in the order in which they stand."""
    found = read_catalog(
        [
            Source("a.yaml", "events:\n  a.b: {}\nbadges:\n- key: A\n  color: x\n  flow: {event: a.c}\n"),
            Source("b.yaml", "badges:\n- key: b\n  flow: {evnt: a.b}\n- key: b\n  flow: {event: a.b}\n  labl: x\n"),
        ]
    )[1]
    assert [(f.code, f.file, f.line, f.column) for f in found] == [
        ("invalid_key", "a.yaml", 4, 8),
        ("bad_operand", "a.yaml", 5, 10),
        ("unknown_event", "a.yaml", 6, 17),
        ("event_type_required", "b.yaml", 3, 9),
        ("duplicate_key", "b.yaml", 4, 8),
        ("unknown_key", "b.yaml", 6, 3),
    ]
    assert all(fault.help for fault in found)


def test_the_nearest_name_is_offered():
    """A mistyped field, metric, badge and event come with the name that was meant."""
    helps = [
        fault.help or ""
        for fault in read_catalog(
            [
                Source("base.yaml", BASE),
                Source(
                    "x.yaml",
                    "badges:\n- {key: one, flow: {event: thing_done}}\n- {key: two, flow: {badge: oen}}\n"
                    "- {key: three, flow: {snapshot: {thigns: {$gte: 1}}}}\n"
                    "- {key: four, flow: {event: thing.done, criteria: {scroe: 1}}}\n",
                ),
            ]
        )[1]
    ]
    assert [("thing.done" in helps[1]), ("one" in helps[2]), ("things" in helps[3])] == [True, True, True]
    assert helps[4] == 'Write "score"; the other fields are deep, item.'


@pytest.mark.parametrize("text", ["", "{}", "version: 1", "badges:\nladders:\nevents: {}\nmetrics:\n", "badges: []"])
def test_an_empty_catalog_is_valid(text: str):
    """Every section may be empty or absent."""
    catalog, found = read_catalog([Source("a.yaml", text)])
    assert not found
    assert catalog is not None
    assert catalog.badges == ()
    assert catalog.timezone == "UTC"


def test_triggers_are_derived_and_may_be_narrowed():
    """A flow is looked at for each type it reads; stated triggers, by name or alias, are a part of these."""
    catalog = load(
        """
        badges:
        - {key: a, flow: {$or: [{event: ThingDone}, {event: thing.undone}]}}
        - {key: b, flow: {$or: [{event: ThingDone}, {event: thing.undone}]}, triggers: [ThingDone]}
        - {key: c, flow: {$timePeriod: {periodType: day, periodCount: {$gte: 3}}}}
        - {key: d, flow: {$timePeriod: {periodType: day, periodCount: {$gte: 3}}}, triggers: [thing.undone]}
        - {key: e, flow: {snapshot: {things: {$gte: 3}}}, triggers: [user.logged_in, cron.anniversary]}
        """
    )
    assert {badge.key: sorted(badge.triggers) for badge in catalog.badges} == {
        "a": ["thing.done", "thing.undone"],
        "b": ["thing.done"],
        "c": ["*"],
        "d": ["thing.undone"],
        "e": ["cron.anniversary", "user.logged_in"],
    }


def test_a_prerequisite_lends_its_triggers():
    """A badge that requires others is looked at whenever one of them may be earned, however far down."""
    catalog = load(
        """
        badges:
        - {key: top, flow: {badge: middle}}
        - {key: middle, flow: {$and: [{badge: low}, {event: thing.undone}]}}
        - {key: low, flow: {event: thing.done}}
        - {key: stated, flow: {badge: low}, triggers: [user.logged_in]}
        """
    )
    assert {badge.key: sorted(badge.triggers) for badge in catalog.badges} == {
        "top": ["thing.done", "thing.undone"],
        "middle": ["thing.done", "thing.undone"],
        "low": ["thing.done"],
        "stated": ["user.logged_in"],
    }


def test_each_circle_of_prerequisites_is_named_once():
    """Two circles, and a badge that hangs on one of them, give two faults."""
    assert faults(
        """
        badges:
        - {key: hanging, flow: {badge: a}}
        - {key: a, flow: {badge: b}}
        - {key: b, flow: {$or: [{badge: c}, {event: thing.done}]}}
        - {key: c, flow: {badge: a}}
        - {key: self, flow: {$not: {badge: self}}}
        """
    ) == [
        ("cyclic_prerequisite", "/badges/1/flow"),
        ("cyclic_prerequisite", "/badges/4/flow"),
        ("true_on_empty", "/badges/4/flow"),
    ]


def test_metrics_become_folds():
    """Counts, gauges, sums with a filter, first and last times, per user or per value of a field."""
    catalog = load(
        """
        metrics:
          gauge: {count: ThingDone, less: thing.undone}
          total: {sum: score, event: thing.done, where: {item: x}}
          first: {first: thing.done}
          last: {last: "*"}
          each: {count: thing.done, by: item}
        badges:
        - {key: a, per: item, flow: {snapshot: {gauge: {$gte: 1}, total: {$gte: 1}, first: {$lte: $NOW(-1y)},
                                                last: {$gte: $NOW(-1d)}, each: {$gte: 2}, things: {$gte: 1}}}}
        """
    )
    done = Match(types=("thing.done",))
    metrics = catalog.metrics
    assert metrics["things"].fold == Fold("count", done)
    assert metrics["gauge"].fold == Fold(
        "gauge", Match(types=("thing.done", "thing.undone")), (("less", ("thing.undone",)),)
    )
    assert metrics["total"].fold.match.clauses[0].field == "item"
    assert (metrics["total"].fold.kind, metrics["total"].fold.params) == ("number", (("field", "score"),))
    assert metrics["first"].fold == Fold("first", done)
    assert metrics["last"].fold == Fold("last", Match())
    assert metrics["each"].fold == Fold("count", done, (), "item")
    assert [name for name, metric in metrics.items() if metric.instant] == ["first", "last"]


@pytest.mark.parametrize("cron", ["* * * * *", "*/5 0-23/2 1,15 jan-mar sun", "0 9 31 12 1-5", "59 23 * * 7"])
def test_schedules_are_five_fields(cron: str):
    """Stars, numbers, names, lists, ranges and steps within each field's bounds are taken."""
    assert faults(f"schedules: [{{event: cron.monthly, cron: '{cron}'}}]") == []


def test_options_are_kept_with_canonical_names():
    """Sections that other rooms live by are handed on, event types by their own names."""
    catalog = load(
        """
        timezone: Europe/Berlin
        feb_29: mar_1
        user_timezone: {event: ThingDone, field: item}
        retention: {ThingDone: 5y}
        schedules: [{event: cron.monthly, cron: "0 9 1 * mon-fri"}]
        active_days: 30
        breaker: {factor: 10, window: 1h, limit: 1000}
        holidays: {office: [2026-12-24]}
        badges: [{key: a, flow: {snapshot: {things: {$gte: 1}}}, triggers: [cron.monthly], breaker: off}]
        """
    )
    assert (catalog.timezone, catalog.feb_29) == ("Europe/Berlin", "mar_1")
    assert catalog.options["user_timezone"] == {"event": "thing.done", "field": "item"}
    assert catalog.options["retention"] == {"thing.done": "5y"}
    assert catalog.options["active_days"] == 30
    assert catalog.holidays == {"office": ("2026-12-24",)}
    assert catalog.badges[0].breaker == "off"
    assert catalog.badges[0].triggers == {"cron.monthly"}


def test_a_stored_document_gives_the_same_catalog():
    """The merged document, through JSON and back, reads as the sources did."""
    catalog = load("badges: [{key: a, flow: {event: thing.done, criteria: {score: {$gte: 0.15}}}}]")
    text = json.dumps(catalog.document, default=str)
    again = catalog_from_document(json.loads(text.replace('"0.15"', "0.15"), parse_float=Decimal), 7)
    assert again.version == 7
    assert again.badges == catalog.badges
    assert again.metrics == catalog.metrics
    with pytest.raises(AuthorError, match="no_test"):
        catalog_from_document({"badges": [{"key": "a"}]}, 1)


def test_loading_raises_all_errors_and_no_warnings():
    """`load_catalog` raises with every error; a catalog with warnings only is loaded."""
    assert load("events: {Odd: {}}").dictionary.resolve("Odd") is not None
    with pytest.raises(AuthorError) as caught:
        load("badges: [{key: A}, {key: b}]\nevents: {Odd: {}}")
    assert [fault.code for fault in caught.value.faults] == ["no_test", "invalid_key", "no_test"]


def test_display_keys_reach_the_badge():
    """What an author says of looks and behaviour stands on the badge; the label comes from the key where absent."""
    badge = load(
        """
        badges:
        - key: nice_one
          family: fun
          description: D
          icon: star
          color: "#c9a227"
          image_url: https://example.com/nice.png
          sort_score: 40
          status: hidden
          revocable: manual
          animation: {kind: webm, url: https://example.com/x.webm}
          translations: {de: {label: Gut}}
          flow: {event: thing.done}
          per: item
        """
    ).badges[0]
    assert (badge.label, badge.family, badge.sort_score, badge.status) == ("Nice one", "fun", 40, "hidden")
    assert (badge.per, badge.revocable, badge.color) == ("item", "manual", "#c9a227")
    assert badge.animation == {"kind": "webm", "url": "https://example.com/x.webm"}
    assert badge.translations == {"de": {"label": "Gut"}}
    assert badge.flow == {"event": "thing.done"}


WORDS = [
    "key", "flow", "event", "criteria", "per", "triggers", "levels", "metric", "since", "years", "code", "count",
    "less", "sum", "where", "first", "last", "aliases", "schema", "badge", "snapshot", "$and", "$not", "de",
    "label", "rule_type", "rule_data", "trigger_event", "translations", "a", "thing.done", "noun", "name", "field",
    "cron",
]  # fmt: skip
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "thing.done", "*", "1y", "$gte", "x.y"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            WORDS
        ),
        inner,
        max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(
            ["version", "timezone", "events", "metrics", "badges", "ladders", "tenures", "milestones", "user_timezone",
             "schedules", "retention", "breaker", "holidays", "condition_types", "feb_29", "active_days"]
        ),
        ODD | st.lists(ODD, max_size=3),
        max_size=6,
    )
)  # fmt: skip
def test_no_document_raises(document: dict[str, Any]):
    """Whatever stands where, the answer is a catalog or faults that say what is wrong."""
    catalog, found = read_catalog([Source("a.json", json.dumps(document))])
    assert (catalog is None) == any(fault.severity == "error" for fault in found)
    assert all(fault.file == "a.json" and fault.line for fault in found)
