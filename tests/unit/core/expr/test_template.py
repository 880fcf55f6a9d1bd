"""What `${{ }}` means, and what is said where it means nothing."""

from types import MappingProxyType

import pytest

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.evaluate import MappingScope
from dfm.core.expr.template import parse_template

SCOPE = MappingScope(
    {
        "a": 3,
        "b": "hi",
        "flag": True,
        "words": ["c", "a", "b"],
        "nested": {"x": {"y": 5}},
        "env": {"HOME": "/h"},
        "in": {"value": 5},
        "count": 0,
        "empty": "",
        "pair": ("p", "q"),
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
        ("${{ 1 in [true] }}", False),
        ("${{ 0x1F }}", 31),
        ("${{ 2.5e-1 }}", 0.25),
        ("${{ 4 / 2 }}", 2.0),
        ("${{ 2 ** 3 ** 2 }}", 512),
        ("${{ 2 ** -1 }}", 0.5),
        ("${{ 10 - 3 - 2 }}", 5),
        ("${{ 1 - -1 }}", 2),
        ("${{ !b == 'x' }}", True),
        ("${{ not flag or a == 3 }}", True),
        ("${{ empty || 'other' }}", "other"),
        ("${{ count && missing }}", 0),
        ("${{ flag || missing }}", True),
        ("${{ 'no' ? 1 : 2 }}", 2),
        ("${{ false ? 1 : false ? 2 : 3 }}", 3),
        ("${{ flag ? b : 'x' | upper }}", "HI"),
        ("${{ flag ? words[0:1]:-1 }}", ["c"]),
        ("${{ {b: 1}[b] | default(7) }}", 7),
        ("${{ {'k': [1, 2]}['k'][-1] }}", 2),
        ("${{ 'abc'[0] }}", "a"),
        ("${{ b[-1:] }}", "i"),
        ("${{ words[] }}", ["c", "a", "b"]),
        ("${{ nested.x[] }}", [5]),
        ("${{ 'y' in nested.x }}", True),
        ("${{ 'b' not in 'abc' }}", False),
        ("${{ [1] in {'a': 1} }}", False),
        ("${{ pair == ['p', 'q'] }}", True),
        ("${{ words + ['d'] }}", ["c", "a", "b", "d"]),
        ("${{ in.value == 5 }}", True),
        ("${{ env.HOME:-}}", "/h"),
        ("${{ env.FOO:-don't }}", "don't"),
        ("${{ empty:-x }}", "x"),
        ("${{ missing.a[0].b:-x y }}", "x y"),
        ("${{ words[9]:-x }}", "x"),
        ("${{ count:-9 }}", 0),
        ("${{ count | default(9) }}", 0),
        ("${{ default(nested.x.z, [1]) }}", [1]),
        ("${{ words | map(.upper()) }}", ["C", "A", "B"]),
        ("${{ words | map(item + '.sv') }}", ["c.sv", "a.sv", "b.sv"]),
        ("${{ words | select(. != 'a') }}", ["c", "b"]),
        ("${{ words | select(input in ['a']) }}", ["a"]),
        ("${{ map([1, 2], item * a) }}", [3, 6]),
        ("${{ [[1, 2], [3]] | map(. | map(item + 1)) }}", [[2, 3], [4]]),
        ("${{ [{'if': 1}] | map(.if) }}", [1]),
        ("${{ (words | length) > 2 }}", True),
        ("${{ 'a\\tb\\x41\\u00e9\\q' }}", "a\tbA\u00e9\\q"),
        ("a $${{ ${{ a }}", "a ${{ 3"),
        ("$ ${{ a }}", "$ 3"),
        ("${{ a }}${{ b }}", "3hi"),
        ("${{ null }} ${{ words }} ${{ 2.5 }}", 'null ["c","a","b"] 2.5'),
        ("${{ {'k': {'z': 1}}}}", {"k": {"z": 1}}),
        ("${{\n  a\n}}", 3),
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
        ("${{ words[7] }}", "there is no item 7; the list has 3", 10, None),
        ("${{ sortt(words) }}", "there is no function 'sortt'", 4, "did you mean 'sort'?"),
        ("${{ shell('ls') }}", "an expression never runs commands", 4, "use a task with `run:` and its outputs"),
        ("${{ 2 ** 99999 }}", "the number is too large", 6, None),
        ("${{ 1 / 0 }}", "division by zero", 6, None),
        ("${{ range(10000000) }}", "range makes 10,000,000 items; 1,000,000 is the limit", 4, None),
        ("${{ a.b }}", "a value of type int has no 'b'", 6, None),
        ("${{ a b }}", "'b' was not expected here", 6, None),
        ("${{ nested.xx }}", "there is no 'xx' in it", 11, "did you mean 'x'?"),
        ("${{ words.x }}", "a list has no 'x'", 10, "use `[0].x` or `| map(.x)`"),
        ("${{ words.0 }}", "a name after `.` was expected, not '0'", 10, "use `[0]`"),
        ("${{ words['x'] }}", "the index of a list is an int, not str", 10, None),
        ("${{ a[0] }}", "a value of type int has no items", 6, None),
        ("${{ words['a':] }}", "the bounds of a slice are ints, not str", 10, None),
        ("${{ -b }}", "`-` needs a number, not str", 4, None),
        ("${{ 1 < b }}", "`<` does not fit int and str", 6, None),
        ("${{ 1 in 2 }}", "`in` does not fit int and int", 6, None),
        ("${{ 'a' * 9 }}", "`*` does not fit str and int", 8, None),
        ("${{ true + 1 }}", "`+` does not fit bool and int", 9, None),
        ("${{ 1 < 2 < 3 }}", "comparisons do not chain", 10, "join them with `and`"),
        (
            "${{ words | length == words | length }}",
            "'|' was not expected here",
            28,
            "write the pipes on both sides of an operator in brackets",
        ),
        ("${{ b or a:-x }}", "`:-` follows a name and nothing else", 10, "use `default(value, other)`"),
        ("${{ (a }} x", "`(` is not closed", 4, "add `)`"),
        ("${{ a } }}", "`}` closes nothing", 6, "an expression ends with `}}`"),
        ("${{ f(1) }}", "there is no function 'f'", 4, None),
        ("${{ length(a, b) }}", "length does not take 2 arguments", 4, None),
        ("${{ words | map }}", "map takes a value and an expression", 12, None),
        ("${{ a | map(item) }}", "map needs a list, not int", 8, None),
        ("${{ .x }}", "a leading `.` is the element inside map, select and group_by", 4, None),
        ("${{ 'ls' | shell }}", "an expression never runs commands", 11, "use a task with `run:` and its outputs"),
        ("${{ a ? 1 }}", "`:` was expected, not the end of the expression", 10, None),
        ("${{ '\\ud800' }}", "half of a surrogate pair is no text", 4, "write the character"),
        ("${{ 0 ** -1 }}", "division by zero", 6, None),
        ("${{ (-8) ** 0.5 }}", "the root of a negative number is no real number", 9, None),
        ("one ${{ a }} two ${{ wordz }}", "nothing is called 'wordz' here", 21, "did you mean 'words'?"),
    ],
)
def test_a_fault_points_to_its_token(text: str, message: str, offset: int, hint: str | None) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_template(text).evaluate(SCOPE)
    assert (caught.value.message, caught.value.offset, caught.value.hint) == (message, offset, hint)


@pytest.mark.parametrize(
    ("text", "names", "paths"),
    [
        ("${{ params.x }}", {"params"}, {"params.x"}),
        ("${{ $a.b[0].c + d }}", {"a", "d"}, {"a.b", "d"}),
        (
            "${{ inputs | map(item.x + offset) }} ${{ env.HOME }}",
            {"inputs", "offset", "env"},
            {"inputs", "offset", "env.HOME"},
        ),
        ("${{ item | map(input) }}", {"item"}, {"item"}),
        ("${{ a | map(b | select(item.c)) }}", {"a", "b"}, {"a", "b"}),
        ("${{ env.CC:-gcc }}", {"env"}, {"env.CC"}),
        ("${{ a ? b : c | default(d) }}", {"a", "b", "c", "d"}, {"a", "b", "c", "d"}),
        ("${{ {k: v}['w'] }}", {"v"}, {"v"}),
        ("${{ words.sort() | map(.x) }}", {"words"}, {"words"}),
        ("plain", set(), set()),
    ],
)
def test_names_are_those_of_the_scope_and_not_of_elements(text: str, names: set[str], paths: set[str]) -> None:
    template = parse_template(text)
    assert (set(template.names), set(template.paths)) == (names, paths)


@pytest.mark.parametrize(("text", "is_constant"), [("plain $ {{ }}", True), ("${{ a }}", False), ("$${{", False)])
def test_constant_is_what_may_be_used_as_it_is_written(text: str, is_constant: bool) -> None:
    assert parse_template(text).is_constant is is_constant


def test_equal_texts_are_parsed_once() -> None:
    assert parse_template("${{ a }} once") is parse_template("${{ a }}" + " once")


def test_text_is_asked_for_where_a_value_would_do() -> None:
    assert parse_template("${{ words }}").evaluate_text(SCOPE) == '["c","a","b"]'


def test_the_nearest_layer_of_a_scope_wins() -> None:
    scope = MappingScope({"x": 1}, {"x": 2, "y": 3})
    assert parse_template("${{ [x, y] }}").evaluate(scope) == [1, 3]


def test_a_lazy_mapping_comes_out_as_a_plain_one() -> None:
    environ = MappingProxyType({"HOME": "/h"})
    scope = MappingScope({"env": environ})
    assert [type(parse_template(text).evaluate(scope)) for text in ("${{ env }}", "${{ [env][0] }}")] == [dict, dict]


def test_values_of_python_are_not_looked_into() -> None:
    with pytest.raises(ExpressionError, match="a value of type str has no '__class__'"):
        parse_template("${{ b.__class__ }}").evaluate(SCOPE)


def test_an_unknown_name_without_a_near_one_lists_those_there_are() -> None:
    scope = MappingScope(dict.fromkeys((f"name{number:02}" for number in range(20)), 0))
    with pytest.raises(ExpressionError) as caught:
        parse_template("${{ zzz }}").evaluate(scope)
    listed = ", ".join(f"name{number:02}" for number in range(12))
    assert caught.value.hint == f"there are: {listed}, ..."
