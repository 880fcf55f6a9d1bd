"""What the functions of an expression give, and what they refuse."""

import pytest

from dfm.core.expr.errors import ExpressionError
from dfm.core.expr.evaluate import MappingScope
from dfm.core.expr.template import parse_template

NOTHING = MappingScope()


@pytest.mark.parametrize("call", ["length([1, 2])", "[1, 2].length()", "[1, 2] | length", "[1, 2] | length()"])
def test_a_function_is_called_in_three_ways(call: str) -> None:
    assert parse_template("${{ " + call + " }}").evaluate(NOTHING) == 2


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("len('abc')", 3),
        ("length({'a': 1})", 1),
        ("keys({'a': 1, 'b': 2})", ["a", "b"]),
        ("keys(['x', 'y'])", [0, 1]),
        ("values({'a': 1})", [1]),
        ("values([1])", [1]),
        ("sort([10, 9, 2.5])", [2.5, 9, 10]),
        ("sort(['b', 10, null, 9, [1], true, {}])", [None, True, 9, 10, "b", [1], {}]),
        ("unique([3, 1, 3, '3', [1], [1]])", [3, 1, "3", [1]]),
        ("reverse([1, 2])", [2, 1]),
        ("reverse('ab')", "ba"),
        ("first([1, 2])", 1),
        ("last([1, 2])", 2),
        ("flatten([1, [2, [3]]])", [1, 2, [3]]),
        ("flatten([1, [2, [3]]], 2)", [1, 2, 3]),
        ("flatten([[1]], 0)", [[1]]),
        (
            "['x', 1, 1.5, true, null, [], {}] | map(type(item))",
            ["string", "number", "number", "boolean", "null", "array", "object"],
        ),
        ("split('a/b', '/')", ["a", "b"]),
        ("split(' a  b ')", ["a", "b"]),
        ("join(['a', 1, true])", "a 1 true"),
        ("join(['a', 'b'], '')", "ab"),
        ("group_by([1, 2, 3, 4], item % 2)", [[1, 3], [2, 4]]),
        ("upper('a') + lower('B') + strip(' c ')", "Abc"),
        ("replace('a.v', '.v', '.sv')", "a.sv"),
        ("startswith('abc', 'ab')", True),
        ("'abc'.endswith('ab')", False),
        ("contains('abc', 'bc')", True),
        ("contains([1, 2], 2)", True),
        ("contains({'a': 1}, 'a')", True),
        ("basename('/x/y.sv')", "y.sv"),
        ("dirname('/x/y.sv')", "/x"),
        ("str(1.5) + str('x') + str([1])", "1.5x[1]"),
        ("[int('42'), int(' 0x10 '), int('-007'), int(2.9), int(true)]", [42, 16, -7, 2, 1]),
        ("[float('1.5'), float(2)]", [1.5, 2.0]),
        (
            "['yes', 'no', '0', '', 'x', 0, 1, null, []] | map(bool(item))",
            [True, False, False, False, True, False, True, False, False],
        ),
        ("range(3)", [0, 1, 2]),
        ("range(5, 0, -2)", [5, 3, 1]),
        ("min([2, 1])", 1),
        ("max(2, 3, 1)", 3),
        ("max(['10', '9'])", "9"),
        ("sum([1, 2.5])", 3.5),
        ("sum([])", 0),
        ("sh('a b')", "'a b'"),
        ("sh(['a b', 1, ''])", "'a b' 1 ''"),
        ("tojson({'a': [1, null, 'x']})", '{"a":[1,null,"x"]}'),
        ("json(tojson({'a': [1.5]}))", {"a": [1.5]}),
        ("by_type([{'type': 'a'}, {'type': 'b'}, {}], 'b')", [{"type": "b"}]),
        ("by_filetype([{'filetype': 'v'}, 1], 'v')", [{"filetype": "v"}]),
        ("zip([1, 2, 3], ['a', 'b'])", [[1, "a"], [2, "b"]]),
    ],
)
def test_a_function_gives_its_value(call: str, value: object) -> None:
    assert parse_template("${{ " + call + " }}").evaluate(NOTHING) == value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("length(1)", "length needs a list, a map or a str, not int"),
        ("first([])", "first of an empty list"),
        ("sort('ab')", "sort needs a list, not str"),
        ("split('a', '')", "empty separator"),
        ("split('a', 1)", "split needs a str, not int"),
        ("upper(1)", "upper needs a str, not int"),
        ("int('x1')", "'x1' is no whole number"),
        ("float('nan')", "'nan' is no number"),
        ("range('a')", "range needs whole numbers, not str"),
        ("range(1, 2, 0)", "range takes a stop, or a start, a stop and a step that is not 0"),
        ("sum(['a'])", "sum needs numbers, not str"),
        ("max([])", "max of nothing"),
        ("json('NaN')", "not JSON: NaN is no number"),
        ("json('{')", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("default(1)", "default takes a value and what stands in for it"),
        ("upper()", "upper does not take 0 arguments"),
    ],
)
def test_a_function_says_what_it_needs(call: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_template("${{ " + call + " }}").evaluate(NOTHING)
    assert caught.value.message == message
