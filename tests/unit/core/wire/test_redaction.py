"""Secrets in what is told: stars in their place."""

import io
import logging

import pytest

from dfm.core.wire.redaction import Redaction


@pytest.fixture
def redaction() -> Redaction:
    made = Redaction()
    made.learn({"API_TOKEN": "hunter2hunter2", "MY_PASSWORD": "short", "PATH": "/usr/bin:/bin"})
    return made


def test_values_of_secret_variables_are_blackened(redaction: Redaction) -> None:
    assert redaction.hide("call with hunter2hunter2 /usr/bin:/bin short") == "call with *** /usr/bin:/bin short"


def test_a_secret_that_is_part_of_another_leaves_no_rest_of_it(redaction: Redaction) -> None:
    redaction.learn({"SECRET_KEY_": "hunter2hunter2-and-more"})
    assert redaction.hide("hunter2hunter2-and-more, hunter2hunter2") == "***, ***"


def test_every_text_of_an_answer_is_looked_over(redaction: Redaction) -> None:
    answer = {"jobs": [{"reason": "bad hunter2hunter2", "count": 3}], "paused": "hunter2hunter2"}
    assert redaction.hide_in(answer) == {"jobs": [{"reason": "bad ***", "count": 3}], "paused": "***"}


def test_no_line_of_a_log_shows_a_secret_and_no_traceback(redaction: Redaction) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(redaction.formatter("%(levelname)s %(message)s"))
    log = logging.getLogger("tests.redaction")
    log.addHandler(handler)
    log.warning("with %s", "hunter2hunter2")
    with pytest.raises(ValueError, match="hunter2") as caught:
        int("hunter2hunter2")
    log.error("it failed", exc_info=caught.value)
    log.removeHandler(handler)
    assert stream.getvalue().startswith("WARNING with ***\nERROR it failed\nTraceback")
    assert "hunter2" not in stream.getvalue()
