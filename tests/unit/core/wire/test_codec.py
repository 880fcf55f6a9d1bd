"""Requests and results arrive as they were, to the byte."""

import dataclasses
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm.api.runner import (
    Body,
    BuiltinBody,
    CommandRecord,
    Outcome,
    PythonBody,
    PythonCall,
    PythonSource,
    Resources,
    ShellBody,
    TaskRequest,
    TaskResult,
)
from dfm.api.task import Marker, MarkerLocation, Severity
from dfm.core.wire.codec import decode_request, decode_result, encode_request, encode_result
from dfm.core.wire.environment import environment_message, travelling, variables_of
from dfm.core.wire.exchange import decode_to_worker, encode
from dfm.core.wire.frame import ProtocolError

texts = st.text(st.characters(exclude_categories=()), max_size=20)
environments = st.dictionaries(texts.filter(lambda text: "\0" not in text), texts.filter(lambda text: "\0" not in text))
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
REQUEST = TaskRequest(
    run_id="r", task="p.t", attempt=2, rundir="/r\udcfe", srcdir="/s", root_pkgdir="/p", root_rundir="/r", artefact="a",
    body=ShellBody("echo", "sh"), params={}, inputs=[], memento=None, env={}, changed=False,
    resources=Resources(cores=4, memory_bytes=1 << 40, wall_seconds=1.5, queue="q", resource_class="big",
                        resource_select=("a", "b"), may_grow=True, larger=Resources(memory_bytes=1 << 41)),
)  # fmt: skip

RESULT = TaskResult(
    outcome=Outcome.FAILED, cause="exit status 3", status=3, changed=False, outputs=[{"type": "T"}], memento=[1],
    markers=[Marker(Severity.ERROR, "m", MarkerLocation("f", 1, 2)), Marker(Severity.INFO, "n")],
    commands=[CommandRecord("make", 2)], text="t", host="h", started_at="now", seconds=1.0, cpu_seconds=0.5,
    max_rss_bytes=1 << 33, resource_class="big",
)  # fmt: skip

BODIES: list[Body] = [
    ShellBody("é", "tcsh"),
    PythonBody(PythonSource.FILE, "/a.py", "f", "flow.yaml:3", PythonCall.UPTODATE),
    BuiltinBody("std.Message"),
]


def test_there_is_an_example_of_every_body_with_no_field_at_its_default() -> None:
    assert {type(body) for body in BODIES} == set(get_args(Body))
    examples: list[Body | TaskRequest | Resources | TaskResult] = [*BODIES, REQUEST, REQUEST.resources, RESULT]
    for example in examples:
        for field in dataclasses.fields(example):
            default = field.default_factory() if callable(field.default_factory) else field.default
            assert getattr(example, field.name) != default, field.name


@pytest.mark.parametrize("body", BODIES)
def test_every_body_arrives(body: Body) -> None:
    request = dataclasses.replace(REQUEST, body=body)
    assert decode_request(encode_request(request)) == request


@given(json_like, st.dictionaries(texts, json_like, max_size=3))
def test_json_like_values_arrive_as_they_were(value: object, params: dict[str, object]) -> None:
    request = dataclasses.replace(REQUEST, params=params, memento=value, inputs=[{"type": "T", "v": value}])
    assert decode_request(encode_request(request)) == request
    result = TaskResult(
        outcome=Outcome.SUCCEEDED, memento=value, outputs=[{"type": "T", "v": value}], markers=[], commands=[]
    )
    assert decode_result(encode_result(result)) == result


@given(environments, environments)
def test_environment_travels_as_its_difference(base: dict[str, str], env: dict[str, str]) -> None:
    request = dataclasses.replace(REQUEST, env=env)
    assert decode_request(encode_request(request, base), base) == request


def test_same_environment_costs_nothing_in_the_request() -> None:
    env = {f"VARIABLE_{number}": "x" * 100 for number in range(100)}
    assert len(encode_request(dataclasses.replace(REQUEST, env=env), env)) < 500


def test_result_arrives_whole() -> None:
    assert decode_result(encode_result(RESULT)) == RESULT


@given(st.binary(max_size=100))
def test_garbage_is_a_protocol_error(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(garbage)
    with pytest.raises(ProtocolError):
        decode_result(garbage)


@given(st.dictionaries(st.binary(min_size=1).map(lambda b: b.replace(b"\0", b"x").decode("utf-8", "surrogateescape")),
                       st.binary().map(lambda b: b.replace(b"\0", b"x").decode("utf-8", "surrogateescape"))))  # fmt: skip
def test_environment_message_arrives_to_the_byte(variables: dict[str, str]) -> None:
    message = environment_message(variables)
    [arrived] = decode_to_worker(encode([message]))
    assert arrived == message
    assert variables_of(message) == variables


def test_digest_names_the_content_and_not_the_order() -> None:
    first, second = environment_message({"A": "1", "B": "2"}), environment_message({"B": "2", "A": "1"})
    assert first.digest == second.digest
    assert environment_message({"A": "1B", "B": "2"}).digest != environment_message({"A": "1", "BB": "2"}).digest


def test_denied_variables_stay_at_home_whatever_is_allowed() -> None:
    variables = {"PATH": "/bin", "GITHUB_TOKEN": "t", "HOME": "/h", "LSB_JOBID": "1"}
    assert travelling(variables, ["*"], ["*TOKEN*", "LSB_*"]) == {"PATH": "/bin", "HOME": "/h"}
    assert travelling(variables, ["PATH", "GIT*"], ["*TOKEN*"]) == {"PATH": "/bin"}
    assert travelling(variables, [], []) == {}
    assert travelling(variables, ["path"], []) == {}
