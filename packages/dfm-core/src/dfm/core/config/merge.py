"""Layers over each other: which value each setting has, who gave it, and who lost.

A setting's values are kept in order of layers. The nearest one wins; lists and mappings are joined, weakest first,
unless one is marked `!replace`. A lock forbids nearer layers to say otherwise, a cap bounds what they may ask for;
what a weaker layer or the default asks beyond a cap is brought down to it.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from dfm.api.errors import SourceLocation
from dfm.api.options import OptionSpec
from dfm.core.config.decode import WrongValueError, decode
from dfm.core.config.faults import Faults
from dfm.core.config.layers import DEFAULT_ORIGIN, Layer, Origin
from dfm.core.config.nodes import Listing, Node, Scalar, Style, Table, Tag
from dfm.core.config.schema import NUMERIC, Kind, Setting

Path: TypeAlias = tuple[str, ...]


class Given(Struct, frozen=True):
    """A value that a layer gives.

    Attributes:
        key: where its key stands, if it stands in a file.
        number: counts what was taken in, so that the last of two words on the command line is known.
    """

    origin: Origin
    node: Node
    key: SourceLocation | None = None
    number: int = 0


class Role(enum.StrEnum):
    """What became of a candidate."""

    WINS = "wins"
    JOINED = "joined"
    LOSES = "loses"
    LIMITS = "limits"


class Candidate(Struct, frozen=True):
    """One layer's say, as it is written, and what became of it."""

    origin: Origin
    written: object
    role: Role


class Effective(Struct, frozen=True):
    """The value of a setting, and how it came about.

    Attributes:
        value: in base units.
        origin: of the value, or of the last list that was joined.
        candidates: every layer's say, weakest first, the default included.
        lock: where the setting is locked.
        cap: where the value was bounded, None where no cap changed it.
    """

    path: Path
    setting: Setting
    value: Any
    origin: Origin
    candidates: tuple[Candidate, ...]
    lock: Origin | None = None
    cap: Origin | None = None

    @property
    def key(self) -> str:
        """The setting's full name."""
        return ".".join(self.path)

    @property
    def written(self) -> object:
        """The value as a settings file holds it."""
        return self.setting.written(self.value)


class Layered(Struct):
    """All that the layers say, by the path of the setting."""

    values: dict[Path, list[Given]] = field(default_factory=dict)
    caps: dict[Path, list[Given]] = field(default_factory=dict)
    locks: dict[Path, Origin] = field(default_factory=dict)
    resets: dict[Path, Layer] = field(default_factory=dict)
    tables: dict[Path, Layer] = field(default_factory=dict)
    count: int = 0

    def add(self, path: Path, given: Given) -> None:
        """Take in a value; layers come weakest first."""
        self.count += 1
        given = replace(given, number=self.count)
        if given.node.tag is Tag.MAX:
            self.caps.setdefault(path, []).append(given)
            return
        self.values.setdefault(path, []).append(given)
        if given.node.tag is Tag.LOCK:
            self.mark(path, given)

    def mark(self, path: Path, given: Given) -> None:
        """Take in that a section is there, and what the tag of a value or section says; the weakest lock counts."""
        if isinstance(given.node, Table):
            self.tables[path] = given.origin.layer
        if given.node.tag is Tag.LOCK:
            self.locks.setdefault(path, given.origin)
        if given.node.tag is Tag.REPLACE:
            self.resets[path] = given.origin.layer

    def renamed(self, prefix: Path, old: str, new: str) -> None:
        """Count what is said of one key as said of another: an alias whose declaration became known."""
        for store in (self.values, self.caps):
            moved = store.pop((*prefix, old), [])
            if moved:
                kept = [*store.get((*prefix, new), []), *moved]
                store[(*prefix, new)] = sorted(kept, key=lambda given: (given.origin.layer, given.number))
        lock = self.locks.pop((*prefix, old), None)
        if lock is not None:
            self.locks.setdefault((*prefix, new), lock)

    def below(self, prefix: Path) -> list[str]:
        """Return the keys of a section that any layer names, but for those that `!replace` has dropped."""
        length = len(prefix)
        paths = [
            *(path for path in self.values if self.given(path)),
            *self.caps,
            *(path for path, layer in self.tables.items() if layer >= self._since(path)),
        ]
        return list(dict.fromkeys(path[length] for path in paths if len(path) > length and path[:length] == prefix))

    def given(self, path: Path) -> list[Given]:
        """Return the values of a setting, weakest first, without those that `!replace` on a section has dropped."""
        since = self._since(path)
        return [given for given in self.values.get(path, []) if given.origin.layer >= since]

    def _since(self, path: Path) -> Layer:
        """Return the layer from which on what is said of a path counts; what is locked cannot be dropped."""
        resets = [layer for reset, layer in self.resets.items() if path[: len(reset)] == reset]
        since = max(resets, default=Layer.DEFAULT)
        lock = self.lock_of(path)
        return Layer.DEFAULT if lock is not None and lock.layer < since else since

    def lock_of(self, path: Path) -> Origin | None:
        """Return the weakest lock on the setting or on a section that it lies in."""
        found = [origin for locked, origin in self.locks.items() if path[: len(locked)] == locked]
        return min(found, key=lambda origin: origin.layer, default=None)

    def effective(self, path: Path, setting: Setting, faults: Faults) -> Effective:
        """Return the value of a setting; what is wrong with a layer's say is told and passed over."""
        lock = self.lock_of(path)
        decoded = _decoded(path, setting, self.given(path), faults)
        _check_lock(path, setting, decoded, lock, faults)
        caps = _decoded(path, setting, self.caps.get(path, []), faults)
        if caps and setting.kind not in NUMERIC:
            _refuse_cap(path, caps, faults)
            caps = []
        _check_caps(path, setting, decoded, caps, faults)
        value, origin, candidates = _joined(setting, decoded) if setting.is_accumulating else _nearest(setting, decoded)
        limit = min(caps, key=lambda item: item.number, default=None)
        is_bounded = limit is not None and isinstance(value, (int, float)) and value > limit.number
        limits = [Candidate(cap.origin, f"at most {setting.written(cap.value)}", Role.LIMITS) for cap in caps]
        return Effective(
            path=path,
            setting=setting,
            value=limit.value if limit is not None and is_bounded else value,
            origin=origin,
            candidates=(*candidates, *limits),
            lock=lock,
            cap=limit.origin if limit is not None and is_bounded else None,
        )

    def unchecked(self, path: Path) -> Effective:
        """Return what is said of a setting that nobody here declares, as it is written; lists are joined."""
        given = self.given(path)
        values = [_Decoded(item.origin, plain(item.node), item.node.tag is Tag.REPLACE) for item in given]
        is_list = bool(values) and all(isinstance(item.value, list) for item in values)
        setting = Setting(
            path[-1],
            Kind.LIST if is_list else Kind.TEXT,
            is_optional=True,
            default=() if is_list else None,
            spec=OptionSpec(doc="an option of a runner that is not installed here"),
        )
        value, origin, candidates = _joined(setting, values) if is_list else _nearest(setting, values)
        return Effective(path, setting, value, origin, tuple(candidates), self.lock_of(path))


class _Decoded(Struct, frozen=True):
    origin: Origin
    value: Any
    is_replacing: bool

    @property
    def number(self) -> float:
        assert isinstance(self.value, (int, float))
        return self.value


def _decoded(path: Path, setting: Setting, given: Iterable[Given], faults: Faults) -> list[_Decoded]:
    found: list[_Decoded] = []
    for item in given:
        try:
            value = decode(setting, item.node)
        except WrongValueError as wrong:
            message = "the value is not possible" if setting.spec.is_secret else wrong.message
            faults.add(item.origin, f"{'.'.join(path)}: {message}", wrong.hint, wrong.location)
            continue
        if _continues(setting, item, found):
            value = _sum(setting, found.pop().value, value)
        found.append(_Decoded(item.origin, value, item.node.tag is Tag.REPLACE))
    return found


def _continues(setting: Setting, item: Given, found: Sequence[_Decoded]) -> bool:
    """Whether this is one more word of a list or mapping that the command line gives word by word."""
    is_word = isinstance(item.node, Scalar) and item.node.style is Style.WORD
    return is_word and setting.kind in (Kind.LIST, Kind.MAP) and bool(found) and found[-1].origin == item.origin


def _check_lock(path: Path, setting: Setting, given: Sequence[_Decoded], lock: Origin | None, faults: Faults) -> None:
    if lock is None:
        return
    locked = [item.value for item in given if item.origin.layer == lock.layer]
    for item in given:
        is_same = bool(locked) and item.value == locked[-1] and not setting.is_accumulating
        if item.origin.layer > lock.layer and not is_same:
            to = f" to {shown(setting.written(locked[-1]))}" if locked else ""
            faults.add(
                item.origin,
                f"{'.'.join(path)} is locked{to} by the {lock.layer.shown} at {lock.text}",
                "leave it out, or ask whoever keeps that file",
            )


def _refuse_cap(path: Path, caps: Sequence[_Decoded], faults: Faults) -> None:
    for cap in caps:
        faults.add(cap.origin, f"{'.'.join(path)}: !max goes with an amount, and this is none")


def _check_caps(
    path: Path, setting: Setting, given: Sequence[_Decoded], caps: Sequence[_Decoded], faults: Faults
) -> None:
    for cap in caps:
        for item in given:
            is_number = isinstance(item.value, (int, float))
            if is_number and item.origin.layer > cap.origin.layer and item.number > cap.number:
                faults.add(
                    item.origin,
                    f"{'.'.join(path)}: {setting.written(item.value)} is more than {setting.written(cap.value)}, "
                    f"the most that the {cap.origin.layer.shown} allows at {cap.origin.text}",
                    f"ask for {setting.written(cap.value)} or less",
                )


def _nearest(setting: Setting, given: Sequence[_Decoded]) -> tuple[object, Origin, list[Candidate]]:
    all_given = [_Decoded(DEFAULT_ORIGIN, setting.default, is_replacing=False), *given]
    winner = all_given[-1]
    candidates = [
        Candidate(item.origin, setting.written(item.value), Role.WINS if item is winner else Role.LOSES)
        for item in all_given
    ]
    return winner.value, winner.origin, candidates


def _joined(setting: Setting, given: Sequence[_Decoded]) -> tuple[object, Origin, list[Candidate]]:
    all_given = [_Decoded(DEFAULT_ORIGIN, setting.default, is_replacing=False), *given]
    first = max(index for index, item in enumerate(all_given) if item.is_replacing or index == 0)
    value = all_given[first].value
    for item in all_given[first + 1 :]:
        value = _sum(setting, value, item.value)
    candidates = [
        Candidate(item.origin, setting.written(item.value), Role.JOINED if index >= first else Role.LOSES)
        for index, item in enumerate(all_given)
    ]
    return value, all_given[-1].origin, candidates


def _sum(setting: Setting, weaker: Any, nearer: Any) -> object:  # noqa: ANN401  (two lists, or two mappings)
    return {**weaker, **nearer} if setting.kind is Kind.MAP else (*weaker, *nearer)


def plain(node: Node) -> object:
    """Return a node's value as it is written, for settings that nobody here declares."""
    match node:
        case Scalar():
            return None if node.is_null else node.text
        case Listing():
            return [plain(item) for item in node.items]
        case Table():
            return {entry.key: plain(entry.value) for entry in node.entries}


def shown(value: object) -> str:
    """Return a written value for a person: texts in quotes, lists and mappings as YAML takes them."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Mapping():
            return "{" + ", ".join(f"{name}: {shown(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(shown(item) for item in value) + "]"
        case _:
            return repr(value)
