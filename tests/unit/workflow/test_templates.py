"""Templates: their parts, and what keeps them from doing harm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchrun.core.errors import InvalidValue
from batchrun.workflows.templates import TemplateEngine, TemplateMistake, exact_expression, fresh, is_template
from tests.unit.workflow.probe import value_of


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("{{ item.size }}", "item.size"),
        ("  {{ item.size }}\n", "item.size"),
        ("{{- item.size -}}", "item.size"),
        ("{{ -1 }}", "-1"),
        ('{{ {"a": {"b": 1}} }}', '{"a": {"b": 1}}'),
        ("{{ '}} {{' }}", "'}} {{'"),
        ("{{ item.size }} bytes", None),
        ("{{ item.size }}{{ item.size }}", None),
        ("{{ 'a' }} and {{ 'b' }}", None),
        ("{{ }}", None),
        ("{{ item.size", None),
        ("{% if true %}1{% endif %}", None),
        ("text", None),
    ],
)
def test_exactly_one_expression_is_told_from_text(text: str, expression: str | None) -> None:
    """Only a value that is one expression and nothing else keeps its type."""
    assert exact_expression(text) == expression


@pytest.mark.parametrize(
    ("text", "expected"), [("a {b} c", False), ("100 %", False), ("{{ a }}", True), ("{% a %}", True), ("{# a #}", True)]
)
def test_only_texts_with_marks_are_templates(text: str, *, expected: bool) -> None:
    """Plain texts are taken as they are and cost nothing."""
    assert is_template(text) is expected


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["{{ 7*7 }}", "{% for x in y %}", "{# c #}", "<b>&amp;</b>"]))
@example("{{ vars.model }}{{ item }}")
@example("a\n")
def test_row_content_is_never_a_template(text: str) -> None:
    """Text from a dataset goes through templates, expressions and references unchanged: nothing in it is run or escaped."""
    item = {"name": text}
    assert value_of("<{{ item.name }}>", item) == f"<{text}>"
    assert value_of("{{ item.name ~ '>' }}", item) == f"{text}>"
    assert value_of("{{ (item.name) }}", item) == text
    assert value_of({"a": "{{ item.name }}"}, item) == {"a": text}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "engine ran out of fuel"),
        ("{{ 'x' * 10**10 }}", "too large"),
        ("{{ range(10**12) | list }}", "too many"),
        ("{% for a in item.tags %}{{ 1 / a }}{% endfor %}", "unable to calculate 1 / 0"),
        ("{{ item.size.replace(month=13) }}", "ValueError: month must be in 1..12"),
        ("{{ item.size.strftime(1) }}!", "TypeError"),
        ("{{ item.name | int }}", "invalid operation"),
    ],
)
def test_templates_that_go_wrong_fail_their_item_only(template: str, message: str) -> None:
    """Endless loops, huge values and failing methods become a failed item, in no time and with a reason."""
    with pytest.raises(InvalidValue, match=f"^template failed: .*{message}"):
        value_of(template, {"name": "abc", "tags": [0], "size": date(2020, 1, 1)})


@pytest.mark.parametrize("name", ["__class__", "_private", "replace.__self__"])
def test_templates_see_no_inner_parts_of_objects(name: str) -> None:
    """There is no way from a value to the interpreter behind it."""
    assert value_of(f"{{{{ item.size.{name} is defined }}}}", {"size": date(2020, 1, 1)}) is False


def test_templates_cannot_change_what_they_read() -> None:
    """A method that changes a list changes a copy: the item, the outputs and the variables stay what they were."""
    item, output, variables = {"tags": [1, [2]]}, {"list": [1]}, {"limits": [1]}
    assert value_of("{{ item.tags.pop() }} {{ item.tags.pop() }}", item) == "[2] 1"
    assert value_of("{{ item.tags[1].append(3) }}", item) is None
    assert value_of("{{ nodes.a.output.list.pop() }}", a=output) == 1
    assert value_of("{{ vars.limits.append(2) }}{{ vars.limits }}", vars=variables) == "[1, 2]"
    value_of("{{ vars.limits }}", vars=variables).append(3)
    assert (item, output, variables) == ({"tags": [1, [2]]}, {"list": [1]}, {"limits": [1]})


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_fresh_copies_are_equal_and_share_nothing_that_changes(value: Any) -> None:
    """A copy has the same content; no list or dict in it is one of the original."""

    def containers(tree: Any) -> set[int]:
        inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
        return ({id(tree)} if isinstance(tree, dict | list) else set()).union(*map(containers, inner))

    copy = fresh(value)
    assert copy == value
    assert containers(copy).isdisjoint(containers(value))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{{ item.name }} {{ nodes.a.output.x }}", {("item", "name"), ("nodes", "a", "output", "x")}),
        ("{{ item[\"weird col\"].x }} {{ item['name'] }}", {("item", "weird col", "x"), ("item", "name")}),
        ("{{ item.tags[0].x }} {{ item[item.name] }}", {("item",), ("item", "tags"), ("item", "name")}),
        ("{{ item.name.upper() }} {{ item.items() }}", {("item", "name"), ("item",)}),
        ("{% for tag in item.tags %}{{ tag.x }}{{ loop.index }}{% endfor %}", {("item", "tags")}),
        ("{% set x = item.a %}{{ x.b }}", {("item", "a")}),
        ('{{ item.name in ["a", "b c"] }}{{ item.name in["a"] }}{{ ["a"] }}', {("item", "name")}),
        ("{{ item._0 }}{{ item['__1 x'] }}", {("item", "_0"), ("item", "__1 x")}),
        ("item.name {# item.size #}{% raw %}{{ item.tags }}{% endraw %}", set()),
    ],
)
def test_templates_tell_what_they_refer_to(source: str, names: set[tuple[str, ...]]) -> None:
    """Columns are read and nodes are ordered by the names a template uses: all of them, and no others."""
    assert TemplateEngine().text(source).names == names


@pytest.mark.parametrize(
    "source", ["{{ item.", "{% if %}", "{% for x in %}{% endfor %}", "{{ x | nofilter }}", "{{ x is notest }}", "{% include 'x' %}"]
)
def test_templates_that_can_never_work_do_not_compile(source: str) -> None:
    """Wrong syntax, filters and tests that do not exist are found before the first item."""
    with pytest.raises(TemplateMistake):
        TemplateEngine().text(source)


def test_one_template_serves_many_threads() -> None:
    """Lanes render at the same time; none of them sees another one's item."""
    template = TemplateEngine().text("{% for n in range(20) %}{{ item.name }},{% endfor %}")
    with ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(lambda number: template.render({"item": {"name": number}}), range(500)))
    assert texts == [f"{number}," * 20 for number in range(500)]
