"""The command line of a worker: what an element of an array makes of words that all elements share."""

from argparse import Namespace

import pytest

from dfm.api.batch import ARRAY_INDEX
from dfm.core.worker import main
from dfm.core.worker.main import _put_in_index


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in main._INDEX_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def put_in(slot: str, log: str | None = None) -> Namespace:
    arguments = Namespace(slot=slot, log=log)
    _put_in_index(arguments)
    return arguments


def test_an_element_puts_its_index_into_its_slot_and_the_name_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSB_JOBINDEX", "10")
    assert put_in(f"s-1-7.{ARRAY_INDEX}", f"/100%Intel/w.{ARRAY_INDEX}.log") == Namespace(
        slot="s-1-7.10", log="/100%Intel/w.10.log"
    )
    assert put_in(f"s-1-7.{ARRAY_INDEX}").log is None


def test_the_words_of_a_job_of_its_own_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert put_in("s-1-7", "/logs/50%I.log") == Namespace(slot="s-1-7", log="/logs/50%I.log")
    monkeypatch.setenv("LSB_JOBINDEX", "0")
    assert put_in("s-1-7", "/logs/50%I.log") == Namespace(slot="s-1-7", log="/logs/50%I.log")


@pytest.mark.parametrize("index", [None, "0", ""])
def test_a_job_that_is_of_no_array_refuses_the_words_of_one(monkeypatch: pytest.MonkeyPatch, index: str | None) -> None:
    if index is not None:
        monkeypatch.setenv("LSB_JOBINDEX", index)
    with pytest.raises(ValueError, match=r"slot s-1-7\.%I is for an element of an array"):
        put_in(f"s-1-7.{ARRAY_INDEX}")
