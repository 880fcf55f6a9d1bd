"""An expression, by slip or by intent, neither hangs nor fills the memory nor breaks Python's stack."""

import pytest

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.evaluate import MappingScope
from dfm.core.expr.parser import MAX_DEPTH
from dfm.core.expr.template import parse_template

SCOPE = MappingScope({"a": 1, "many": list(range(20_000)), "digits": "9" * 4_299})


def refusal(expression: str) -> str:
    """Return why an expression is refused."""
    with pytest.raises(ExpressionError) as caught:
        parse_template("${{ " + expression + " }}").evaluate(SCOPE)
    return caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "(" * 200,
        "[" * 200,
        "{'k':" * 200,
        "f(" * 200,
        "not " * 200,
        "!" * 200,
        "-" * 200,
        "1 ? " * 200,
        "1 if 1 else " * 200,
        "2 ** " * 200,
    ],
)
def test_deep_nesting_is_refused_at_once(text: str) -> None:
    closing = {"(": ")", "[": "]", "{": "}"}
    ends = "".join(closing[sign] for sign in reversed(text) if sign in closing)
    assert refusal(f"{text}1{ends}") == f"the expression is nested more than {MAX_DEPTH} deep"


@pytest.mark.parametrize("text", ["1" + " + 1" * 5000, "a" + ".b" * 5000, "a" + " | str" * 5000, "a" + "[0]" * 5000])
def test_a_long_row_of_steps_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="more than 200 steps in a row"):
        parse_template("${{ " + text + " }}")


def test_an_expression_of_ordinary_length_is_not_too_long() -> None:
    assert parse_template("${{ " + " + ".join(["1"] * 100) + " }}").evaluate(SCOPE) == 100


def test_the_deepest_expression_that_parses_is_evaluated() -> None:
    brackets = MAX_DEPTH - 1
    value = parse_template("${{ " + "[" * brackets + "1" + "]" * brackets + " | tojson }}").evaluate(SCOPE)
    assert value == "[" * brackets + "1" + "]" * brackets


@pytest.mark.parametrize(
    "expression",
    [
        "range(1000000) | map(range(1000000))",
        "range(100000) | select(item in many)",
        "range(100000) | map(many | length)",
        "range(100000) | map(many == many)",
        "range(100000) | group_by(many)",
        "range(1000000) | map(item" + " + 1" * 100 + ")",
        "[[1]]" + " | map([item, item])" * 60,
        "[1]" + " | map([item, item]) | flatten" * 60,
        "['a']" + " | map(item + item)" * 60,
        "'\\\\'" + " | tojson" * 60,
    ],
)
def test_work_that_multiplies_is_refused(expression: str) -> None:
    assert refusal(expression) == "the expression is too much work"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("range(1000001)", "range makes 1,000,001 items; 1,000,000 is the limit"),
        (
            "range(2000) | map('x') | join(' ') | replace('', 'a')" + " | replace('a', 'aaaaaaaaaaaaaaaa')" * 5,
            "replace makes",
        ),
        ("range(100000) | join(range(1000) | join)", "join makes"),
        ("[range(1000000)] | map(zip(item, item))", "zip makes more than 1,000,000 items"),
        ("2 ** 10000", "the number is too large"),
        ("9 ** 9 ** 9", "the number is too large"),
        ("10 ** 900 * 10 ** 900", "the number is too large"),
        ("10 ** 900 + 1.5", "the number is too large"),
        ("1e308 * 10", "the number is too large"),
        ("1e999", "the number is too large"),
        ("9" * 5_000, "the number is too large"),
        ("0x" + "f" * 5_000, "the number is too large"),
        ("int(digits)", "the number is too large"),
        ("json(digits)", "not JSON: the number is too large"),
        ("json('" + "[" * 100_000 + "')", "the JSON is nested too deep"),
        ("json('" + "[" * 300 + "]" * 300 + "')", "the value is nested too deep"),
    ],
)
def test_a_value_that_is_too_large_is_refused(expression: str, message: str) -> None:
    assert refusal(expression).startswith(message)


def test_a_million_items_are_not_too_many() -> None:
    assert parse_template("${{ range(1000000) | last }}").evaluate(SCOPE) == 999_999
