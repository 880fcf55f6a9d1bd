"""What `${{ }}` means, and what is said where it means nothing."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.evaluate import MappingScope
from dfm.core.expr.functions import to_text
from dfm.core.expr.template import parse_template

SCOPE = MappingScope(
    {
        "a": 3,
        "b": "hi",
        "flag": True,
        "words": ["c", "a", "b"],
        "nested": {"x": {"y": 5}},
        "env": {"HOME": "/h"},
        "inputs": [{"type": "std.FileSet", "files": ["f", "g"]}, {"type": "T", "files": []}],
    }
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${{ a }}", 3),
        ("x${{ a }}y${{ flag }}", "x3ytrue"),
        ("$${{ a }}", "${{ a }}"),
        ("${{ a + 1 * 2 }}", 5),
        ("${{ (a + 1) * 2 }}", 8),
        ("${{ -a ** 2 }}", -9),
        ("${{ 7 // 2 }}", 3),
        ("${{ 7 / 2 }}", 3.5),
        ("${{ 7 % 4 }}", 3),
        ("${{ 1.5 + 1 }}", 2.5),
        ("${{ 'a' + \"b\" }}", "ab"),
        ("${{ 'don\\'t' }}", "don't"),
        ("${{ [1, 'x', null, true] }}", [1, "x", None, True]),
        ("${{ {'k': {'z': 1}} }}", {"k": {"z": 1}}),
        ("${{ '}}' }}", "}}"),
        ("${{ a > 2 and b == 'hi' }}", True),
        ("${{ a < 2 || !flag }}", False),
        ("${{ not a in [1, 2] }}", True),
        ("${{ 4 not in [4] }}", False),
        ("${{ 'y' if a > 5 else 'n' }}", "n"),
        ("${{ a > 2 ? 'y' : 'n' }}", "y"),
        ("${{ words | sort | join(',') }}", "a,b,c"),
        ("${{ words.sort().last() }}", "c"),
        ("${{ words[-1] }}", "b"),
        ("${{ words[1:] }}", ["a", "b"]),
        ("${{ words[:1] }}", ["c"]),
        ("${{ nested.x.y }}", 5),
        ("${{ nested['x'].y }}", 5),
        ("${{ $a }}", 3),
        ("${{ env.HOME:-none }}", "/h"),
        ("${{ env.FOO:-some text }}", "some text"),
        ("${{ missing | default('d') }}", "d"),
        ("${{ inputs | select(.type == 'std.FileSet') | map(.files) | flatten }}", ["f", "g"]),
        ("${{ inputs | map(item.files | length) }}", [2, 0]),
        ("${{ inputs | by_type('T') | length }}", 1),
        ("${{ range(1, 4) }}", [1, 2, 3]),
        ("${{ [3, 1, 2] | max }}", 3),
        ('${{ "it\'s" | sh }}', "'it'\"'\"'s'"),
        ("${{ 'a b' | split }}", ["a", "b"]),
        ("${{ ['a', 'b', 'a'] | group_by(item) | map(.[0]) }}", ["a", "b"]),
        ("${{ '{\"k\": 1}' | json }}", {"k": 1}),
        ("${{ 1 == true }}", False),
    ],
)
def test_an_expression_has_its_value(text: str, value: object) -> None:
    result = parse_template(text).evaluate(SCOPE)
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message", "offset", "hint"),
    [
        ("${{ aa }}", "nothing is called 'aa' here", 4, "did you mean 'a'?"),
        ("ab ${{ b + 1 }}", "`+` does not fit str and int", 9, "join texts with `str(x)`"),
        ("${{ a + }}", "a value was expected, not the end of the expression", 8, None),
        ("${{ a = 1 }}", "'=' is no part of an expression", 6, "compare with `==`"),
        ("${{ 'a }}", "the string is not closed", 4, None),
        ("${{ a", "`${{` is not closed", 0, "add `}}`"),
        ("${{ }}", "the expression is empty", 4, None),
        ("${{ nested.z }}", "there is no 'z' in it", 11, "it has: x"),
        ("${{ words[7] }}", "there is no item 7; the list has 3", 9, None),
        ("${{ sortt(words) }}", "there is no function 'sortt'", 4, "did you mean 'sort'?"),
        ("${{ shell('ls') }}", "an expression never runs commands", 4, "use a task with `run:` and its outputs"),
        ("${{ 2 ** 99999 }}", "the number is too large", 6, None),
        ("${{ 1 / 0 }}", "division by zero", 6, None),
        ("${{ range(10000000) }}", "range makes 10,000,000 items; 1,000,000 is the limit", 4, None),
        ("${{ a.b }}", "a value of type int has no 'b'", 6, None),
        ("${{ a b }}", "'b' was not expected here", 6, None),
    ],
)
def test_a_fault_points_to_its_token(text: str, message: str, offset: int, hint: str | None) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_template(text).evaluate(SCOPE)
    assert (caught.value.message, caught.value.offset, caught.value.hint) == (message, offset, hint)


def test_names_are_those_of_the_scope_and_not_of_elements() -> None:
    template = parse_template("${{ inputs | map(item.x + offset) }} ${{ env.HOME }}")
    assert template.names == {"inputs", "offset", "env"}
    assert "env.HOME" in template.paths


def test_deep_nesting_is_refused_at_once() -> None:
    with pytest.raises(ExpressionError, match="nested more than"):
        parse_template("${{ " + "(" * 200 + "1" + ")" * 200 + " }}")


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab1.'\"(){}[]|?:+-*/%<>=!&$, \\n", max_size=40))
def test_no_text_raises_anything_but_an_expression_error(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        parse_template("${{" + text + "}}").evaluate(SCOPE)


@given(
    st.one_of(
        st.integers(-(10**9), 10**9),
        st.booleans(),
        st.text(alphabet="abc xyz", max_size=9),
        st.lists(st.integers(0, 99)),
    )
)
def test_a_value_comes_out_as_it_went_in(value: object) -> None:
    literal = f"'{value}'" if isinstance(value, str) else to_text(value)
    assert parse_template("${{ " + literal + " }}").evaluate(SCOPE) == value


@pytest.mark.parametrize("text", ["1" + " + 1" * 5000, "a" + ".b" * 5000, "a" + " | str" * 5000, "a" + "[0]" * 5000])
def test_a_long_row_of_steps_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="more than 200 steps in a row"):
        parse_template("${{ " + text + " }}")


def test_an_expression_of_ordinary_length_is_not_too_long() -> None:
    assert parse_template("${{ " + " + ".join(["1"] * 100) + " }}").evaluate(SCOPE) == 100


def test_loops_inside_loops_are_bounded() -> None:
    with pytest.raises(ExpressionError, match="more than 3,000,000 items"):
        parse_template("${{ range(1000000) | map(range(1000000)) }}").evaluate(SCOPE)
