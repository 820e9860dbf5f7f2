"""What templates may refer to, and the values they become."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from batchrun.core.errors import InvalidValue, UndefinedReference
from tests.unit.workflow.probe import COLUMNS, compiled, probe, problems_of, value_of

VALUES = [
    {"a": [1, {"b": None}]},
    [1, 2],
    (1, 2),
    3,
    2.5,
    True,
    None,
    "text",
    b"bytes",
    2**200,
    Decimal("1.10"),
    datetime(2026, 11, 1, tzinfo=UTC),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("template", ["{{ item.size }}", " {{ item['size'] }}\n", "{{ nodes.a.output }}", "{{ nodes.a.output.field }}"])
def test_an_exact_reference_is_the_value_itself(template: str, value: Any) -> None:
    """Functions get what the dataset or the node before gave, not a copy and not its text."""
    given = {"field": value} if template.endswith("field }}") else value
    assert value_of(template, {"size": value}, a=given) is value


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ (item.size) }}", 3),
        ("{{ item.size + 1 }}", 4),
        ("{{ item.tags | map('upper') | list }}", ["A", "B"]),
        ("{{ item.place }}", {"lat": 1.5, "town": {"name": "Bonn"}}),
        ("{{ (item.place) }}", {"lat": 1.5, "town": {"name": "Bonn"}}),
        ("{{ {'n': item.size, 'p': [item.place.lat]} }}", {"n": 3, "p": [1.5]}),
        ("{{ item.size > 2 and item.name == 'Ann' }}", True),
        ('{{ item.name in ["Ann", "Bob"] }}', True),
        ("{{ item['weird col'] }}", 7),
        ("{{ item['weird col'] * 2 }}", 14),
        ("{{ item.place.town['name'] }}", "Bonn"),
        ("{{ item.place.get('lat') }}", 1.5),
        ("{{ 'x' if item.size > 5 }}", None),
        ("{{ item.name }}{{ item.size }}", "Ann3"),
        ("Dear {{ item.name }},\n{{ item['weird col'] }} {{ item.size > 2 }}", "Dear Ann,\n7 True"),
        ("{% for tag in item.tags %}{{ loop.index }}{{ tag }}{% endfor %}", "1a2b"),
        ("{% set town = item.place.town %}{{ town.name }}", "Bonn"),
        ("{% raw %}{{ item.name }}{% endraw %}", "{{ item.name }}"),
        ("{{ vars.model }}", {"name": "small"}),
        ("{{ vars.model.name }}-{{ vars.limits[1] }}", "small-2"),
        ("{{ range(2) | list }}", [0, 1]),
        ({"a": ["{{ item.size }}", 1, "x", None], "b": {"c": "{{ item.name }}!"}}, {"a": [3, 1, "x", None], "b": {"c": "Ann!"}}),
        ({"a": "{{ item.size }}", "b": "{{ item.name }}"}, {"a": 3, "b": "Ann"}),
        (("{{ item.size }}",), [3]),
        (3, 3),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, str) else None,
)
def test_templates_become_values(template: Any, value: Any) -> None:
    """One expression keeps its type, other text is rendered, and lists and mappings are gone through."""
    item = {"name": "Ann", "size": 3, "tags": ["a", "b"], "place": {"lat": 1.5, "town": {"name": "Bonn"}}, "weird col": 7}
    found = value_of(template, item)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ nodes.a.output }}", None),
        ("{{ nodes.a.output.label.text[0] }}", None),
        ("{{ (nodes.a.output.label) }}", None),
        ("{{ [nodes.a.output.label, {'x': nodes.a.output.list[0]}] }}", [None, {"x": None}]),
        ("{{ nodes.a.output.score > 3 }}", False),
        ("{{ nodes.a.output.score is none }}", True),
        ("{{ nodes.a.output is none }}", True),
        ("{{ nodes.a.output.label or 'none' }}", "none"),
        ("{{ nodes.a.output.list[0].x or 'none' }}", "none"),
        ("{{ nodes.a.output.label.text.upper() }}", None),
        ("{{ nodes.a.output.labels['first label'].x }}!", "!"),
        ("{{ nodes.a.output[0].x }}!", "!"),
        ("<{{ nodes.a.output }}{{ item.place }}>", "<>"),
        ("<{{ nodes.a.output.label.text }}{{ item.place.town.name }}{{ input.place.town }}>", "<>"),
        ("{% for x in nodes.a.output.list %}{{ x }}{% endfor %}.", "."),
        ("{% if nodes.a.output %}{{ nodes.a.output.label }}{% else %}-{% endif %}", "-"),
        ("{{ nodes.a.output.label | tojson }}", "null"),
        ("{{ nodes.a.output.list[0] | tojson }} {{ nodes.a.output.list[0] | length }}", "{} 0"),
        ("{{ item.place.town.name }}", None),
        ("{{ item.place.town.name or 'nowhere' }}", "nowhere"),
    ],
)
def test_null_goes_through_templates(template: str, value: Any) -> None:
    """What depends on a skipped node or an empty cell is null or empty text, and not an error."""
    assert value_of(template, {"place": None}, a=None) == value


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ item.nmae }}", 'unknown column "nmae"; did you mean "name"?'),
        ("Dear {{ item.nmae }}", 'unknown column "nmae"; did you mean "name"?'),
        ("{{ item['weird kol'] }}!", 'unknown column "weird kol"; did you mean "weird col"?'),
        ("{{ input.sise }}", 'unknown column "sise"; did you mean "size"?'),
        ("{{ item[0] }}", 'unknown column "0"; columns: name, place, size, tags, weird col'),
        ("{{ nodes.b.output }}", 'unknown node "b"; nodes: a'),
        ("{{ nodes.b.output }}!", 'unknown node "b"; nodes: a'),
        ("{{ nodes }}", "refer to a node's output as nodes.ID.output"),
        ("{{ nodes.a }}!", "refer to a node's output as nodes.ID.output"),
        ("{{ nodes[item.name].output }}", "refer to a node's output as nodes.ID.output"),
        ("{{ nodes.a.outptu.x }}", 'a node has no "outptu" to refer to; did you mean nodes.a.output?'),
        ("{{ vars.modle }}", 'unknown var "modle"; did you mean "model"?'),
        ("{{ vars.model.nmae }}", 'vars.model has no field "nmae"; did you mean "name"?'),
        ("{{ inputs.x }}", "inputs are not known here; refer to item or nodes"),
        ("{{ itm.name }}", 'unknown name "itm"; did you mean "item"?'),
        ("{{ secret() }}", 'unknown name "secret"; names: input, inputs, item, nodes, vars'),
        ("{{ item.name | upcase }}", "unknown filter: filter upcase is unknown"),
        ("{{ item.name", "syntax error: unexpected end of input, expected end of variable block"),
        ("{{ item.size) + (item.size }}", "syntax error: unexpected `)`, expected end of variable block"),
    ],
)
def test_unknown_names_are_found_before_the_first_item(template: str, problem: str) -> None:
    """A typing mistake costs no call: it is told with its place and the nearest name."""
    assert problems_of(output={"x": [template]}) == [f"workflow.output.x[0]: {problem}"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ item.place.twon }}", 'item.place has no field "twon"; did you mean "town"?'),
        ("In {{ item.place.twon }}", "undefined value: `item.place.twon` is undefined"),
        ("{{ (item.place).twon }}", "undefined value: `item.place.twon` is undefined"),
        ("{{ item.tags[5] ~ '' }}", "undefined value: `item.tags[5]` is undefined"),
        ("{{ nodes.a.output.label }}", 'nodes.a.output has no field "label"; fields: x'),
        ("{{ nodes.a.output.x.y }}", 'nodes.a.output.x has no field "y"; it is of type int'),
        ("{{ vars.model.nmae }}!", "undefined value: `vars.model.nmae` is undefined"),
    ],
)
def test_fields_an_item_does_not_have_fail_it(template: str, message: str) -> None:
    """What only the data can tell is told for the item: nothing turns into an empty text by itself."""
    with pytest.raises(UndefinedReference) as caught:
        value_of(template, {"place": {"town": "Bonn"}, "tags": []}, a={"x": 1})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("template", "input_field", "columns"),
    [
        ("text", None, ()),
        ("{{ vars.model }}", None, ()),
        ("{{ item.size }}", None, ("size",)),
        ("{{ item.size.x[0] }}", None, ("size",)),
        ("Dear {{ item.name }}: {{ item.size }}", None, ("name", "size")),
        ("{{ item['weird col'] }}", None, ("weird col",)),
        ("{{ item['weird col'] }} {{ item.name | upper }}", None, ("name", "weird col")),
        ("{{ item.name.upper() }}", None, ("name",)),
        ("{{ item }}", None, COLUMNS),
        ("{{ item | tojson }}", None, COLUMNS),
        ("{{ item[item.name] }}", None, COLUMNS),
        ("{% for key in item.keys() %}{{ key }}{% endfor %}", None, COLUMNS),
        ("{{ input }}", None, COLUMNS),
        ("{{ input.size }}", None, ("size",)),
        ("{{ input }}", "name", ("name",)),
        ("{{ input.first }}!", "name", ("name",)),
        ("{{ input }} {{ item.size }}", "name", ("name", "size")),
    ],
)
def test_exactly_the_needed_columns_are_read(template: str, input_field: str | None, columns: tuple[str, ...]) -> None:
    """Columns no template uses are never decoded; the whole item is all of them."""
    assert compiled(output=template, input_field=input_field).columns == columns


def test_input_is_the_input_field_or_the_whole_item() -> None:
    """The same template works for a column and for the item."""
    item = {"name": "Ann", "size": 3}
    assert value_of("{{ input }}", item) is item
    assert value_of("{{ input }}", item, input_field="size") == 3
    assert value_of("{{ input }}!", item, input_field="name") == "Ann!"
    assert value_of("{{ input.size }}", item) == 3


def test_a_condition_is_one_expression() -> None:
    """Text would always be true, so it is refused where true or false is wanted."""
    assert problems_of(probe("a", when="item.size > 3"), probe("b", when="{{ item.size }}{{ item.name }}")) == [
        "workflow.nodes[0].when: must be one {{ expression }}, got 'item.size > 3'",
        "workflow.nodes[1].when: must be one {{ expression }}, got '{{ item.size }}{{ item.name }}'",
    ]


class Finding(dict[str, int]):
    """Has a value for any key that is not there."""

    def __missing__(self, key: str) -> int:
        return len(key)


OUTPUTS: list[Any] = [
    {"f": 1, "g": None},
    {"f": 1},
    {"g": 2},
    {0: "zero", "f": {"g": 3}},
    Finding(f=1),
    MappingProxyType({"f": 1, "g": 2}),
    SimpleNamespace(f=1),
    ["first"],
    "text",
    None,
]
FIELDS = ["{{ nodes.a.output.f }}", "{{ nodes.a.output['g'] }}", "{{ nodes.a.output[0] }}"]


def found(template: Any, **given: Any) -> Any:
    """The value of a template, or what fails the item."""
    try:
        return value_of(template, **given)
    except UndefinedReference as error:
        return error


@pytest.mark.parametrize("output", OUTPUTS, ids=range(len(OUTPUTS)))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_values_in_a_mapping_are_those_they_are_alone(count: int, output: Any) -> None:
    """Inputs are mappings, whose usual forms are compiled into one function: it must give the same values, and the same errors."""
    for templates in itertools.product([*FIELDS, "{{ item.size }}", "{{ input }}"], repeat=count):
        mapping = dict(zip("xyz", templates, strict=False))
        around = {"item": {"size": 3, "name": "Ann"}, "input_field": "name", "a": output}
        alone = {key: found(template, **around) for key, template in mapping.items()}
        errors = [value for value in alone.values() if isinstance(value, UndefinedReference)]
        assert repr(found(mapping, **around)) == repr(errors[0] if errors else alone)


def test_null_used_as_itself_and_gone_through_is_an_error() -> None:
    """Where a template uses null both as a value and as something with fields, neither reading may win in silence."""
    with pytest.raises(UndefinedReference):
        value_of("{{ nodes.a.output }} {{ nodes.a.output.x }}", a=None)
    with pytest.raises(InvalidValue):
        value_of("{{ nodes.a.output.x + 1 }}", a=None)
