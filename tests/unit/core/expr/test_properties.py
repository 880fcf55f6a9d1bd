"""What holds for every expression."""

import contextlib
import json
import shlex

from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.evaluate import MappingScope
from dfm.core.expr.functions import FUNCTIONS, LAZY, to_text
from dfm.core.expr.template import parse_template

SCOPE = MappingScope(
    {
        "a": 3,
        "b": "hi",
        "words": ["c", "a"],
        "nested": {"x": {"y": 5}},
        "inputs": [{"type": "T", "files": ["f"]}],
    }
)

SIGNS = "+ - * / // % ** == != < <= > >= && || ! ? : :- | . , ( ) [ ] { } [] = & }} ${{ $"
WORDS = "a b words nested inputs x y zz item in not and or if else true null 0 1 -1 2.5 0x1F 'q' \"r\" .x .0"
CALLS = [*(f"{name}(" for name in FUNCTIONS), *(f"| {name}" for name in sorted(LAZY))]
PIECES = st.sampled_from([*SIGNS.split(), *WORDS.split(), *CALLS])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def fault_of(text: str) -> ExpressionError | None:
    """Evaluate a text and write its value out; return why not, where it is refused."""
    try:
        to_text(parse_template(text).evaluate(SCOPE))
    except ExpressionError as error:
        return error
    return None


def check_fault(text: str) -> None:
    """Check that a text, if it is refused, is so at a place inside it."""
    fault = fault_of(text)
    if fault is not None:
        assert 0 <= fault.offset < fault.offset + fault.length <= len(text)
        assert fault.message


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_no_text_raises_anything_but_an_expression_error(text: str) -> None:
    check_fault(text)
    check_fault("${{" + text + "}}")


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=14), st.sampled_from(["", " "]))
def test_no_row_of_tokens_raises_anything_but_an_expression_error(pieces: list[str], space: str) -> None:
    check_fault("${{ " + space.join(pieces) + " }}")


@given(VALUES)
def test_a_value_of_the_scope_comes_out_as_it_went_in(value: object) -> None:
    assert parse_template("${{ value }}").evaluate(MappingScope({"value": value})) == value


@given(st.none() | st.booleans() | st.integers(-(10**600), 10**600) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_literal_is_its_value(value: object) -> None:
    result = parse_template("${{ " + json.dumps(value) + " }}").evaluate(SCOPE)
    assert (result, type(result)) == (value, type(value))


@given(VALUES)
def test_json_goes_there_and_back(value: object) -> None:
    scope = MappingScope({"value": value})
    assert parse_template("${{ value | tojson | json }}").evaluate(scope) == value
    assert json.loads("[" + parse_template("x${{ [value] }}").evaluate_text(scope)[2:]) == [value]


@given(TEXTS)
def test_quoted_text_is_that_text(text: str) -> None:
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert parse_template("${{ " + quoted + " }}").evaluate(SCOPE) == text


@given(st.lists(TEXTS))
def test_a_shell_reads_quoted_words_as_they_were(words: list[str]) -> None:
    quoted = parse_template("${{ words | sh }}").evaluate_text(MappingScope({"words": words}))
    assert shlex.split(quoted) == words


@given(st.text(alphabet="ab ${}", max_size=30))
def test_an_escaped_text_is_literal(text: str) -> None:
    escaped = text.replace("${{", "$${{")
    with contextlib.suppress(ExpressionError):
        assert parse_template(escaped).evaluate(SCOPE) == text


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 50))
def test_arithmetic_binds_as_in_python(a: int, b: int, c: int) -> None:
    scope = MappingScope({"a": a, "b": b, "c": c})
    text = "${{ [a + b * c, -a ** 2 - b, (a + b) // c % 7, a - b - c < c and not a == b or c in [a, b]] }}"
    expected = [a + b * c, -(a**2) - b, (a + b) // c % 7, (a - b - c < c and not a == b) or c in [a, b]]  # noqa: SIM201
    assert parse_template(text).evaluate(scope) == expected
