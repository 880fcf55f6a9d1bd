"""Why a task is not up to date: every difference between two fingerprints, told to a person."""

import os
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from msgspec import Struct

from dfm.core.record.fingerprint import Fingerprint

R = TypeVar("R")


class Reason(Struct, frozen=True):
    """One thing that speaks against the last result."""

    code: str
    text: str


class Assessment(Struct, Generic[R], frozen=True):
    """What stands of a task's last run.

    Attributes:
        record: the last finished run, even where it does not stand any more.
        reasons: empty exactly when the task is up to date.
    """

    fingerprint: Fingerprint
    record: R | None
    reasons: tuple[Reason, ...]

    @property
    def is_up_to_date(self) -> bool:
        """Whether the last result stands."""
        return self.record is not None and not self.reasons


def differences(old: Fingerprint, new: Fingerprint) -> list[Reason]:
    """Return what changed from `old` to `new`, the most telling first; never empty for different digests."""
    reasons = [
        *_parameters(old.params, new.params),
        *_changed_body(old, new),
        *_files(old, new),
        *_items(old, new),
        *_named("tool", old.tools, new.tools),
        *_named("environment variable", old.environment, new.environment),
    ]
    if old.declared != new.declared:
        reasons.append(Reason("declared", "what it declares to produce changed"))
    return reasons or [Reason("order", "the order of its inputs changed")]


def _parameters(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Reason]:
    for name in {**old, **new}:
        if name not in new:
            yield Reason("param", f"param {name} was removed")
        elif name not in old:
            yield Reason("param", f"param {name} is new")
        elif old[name] != new[name]:
            yield Reason("param", f"param {name}: {old[name]} -> {new[name]}")


def _changed_body(old: Fingerprint, new: Fingerprint) -> Iterator[Reason]:
    if old.body != new.body:
        yield Reason("body", "its script changed")


def _files(old: Fingerprint, new: Fingerprint) -> Iterator[Reason]:
    for path in {**old.files, **new.files}:
        before, after = old.files.get(path), new.files.get(path)
        name = os.path.relpath(path)
        name = name if len(name) < len(path) else path
        if after is None:
            yield Reason("file", f"file {name} is no input any more")
        elif before is None:
            yield Reason("file", f"file {name} is a new input")
        elif before.digest != after.digest:
            what = "is missing" if after.digest is None else "appeared" if before.digest is None else "changed"
            yield Reason("file", f"file {name} {what}")


def _items(old: Fingerprint, new: Fingerprint) -> Iterator[Reason]:
    for key in {**old.items, **new.items}:
        source, _, number = key.rpartition("#")
        if key not in new.items:
            yield Reason("item", f"item {number} of {source} is no input any more")
        elif key not in old.items:
            yield Reason("item", f"item {number} of {source} is a new input")
        elif old.items[key] != new.items[key]:
            yield Reason("item", f"item {number} of {source} changed")


def _named(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Reason]:
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            yield Reason(what.split(maxsplit=1)[0], f"{what} {name} changed")
