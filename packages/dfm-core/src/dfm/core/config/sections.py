"""From the tables of files and the words of the command line to layers of values; keys that nobody knows are faults."""

import re
from collections.abc import Callable, Collection, Sequence

from dfm.api.errors import SourceLocation, UsageError
from dfm.core.config.faults import Faults
from dfm.core.config.layers import Layer, Origin
from dfm.core.config.merge import Given, Layered, Path, plain
from dfm.core.config.nodes import Entry, Scalar, Style, Table
from dfm.core.config.schema import Setting, find, names_of, settings_of
from dfm.core.config.settings import PoolSettings, ResourceClass, ResourceDefaults, RunnerChoice
from dfm.core.plugins.discovery import RESERVED_NAMES
from dfm.core.suggest import did_you_mean

CHOICE = settings_of(RunnerChoice)
SECTIONS: dict[str, type] = {"pool": PoolSettings, "defaults": ResourceDefaults}
CLASSES = "resource_classes"
CLASS = settings_of(ResourceClass)
_CLASS_NAME = re.compile(r"[A-Za-z][\w-]*\Z")


class SectionReader:
    """Takes in layers, weakest first.

    Args:
        runner_names: asked when a key below `runner` is none of ours: the names of all runners that may be configured.
    """

    def __init__(self, layered: Layered, faults: Faults, runner_names: Callable[[], Collection[str]]) -> None:
        self._layered = layered
        self._faults = faults
        self._runner_names = runner_names

    def add_file(self, layer: Layer, table: Table) -> None:
        """Take in a file."""
        for entry in table.entries:
            if entry.key == "runner":
                self._add_runner(layer, entry)
            else:
                self._unknown(layer, entry, f"unknown key {entry.key!r}", ["runner"])

    def add_word(self, layer: Layer, path: Path, text: str, named: str) -> None:
        """Take in a value of the command line or of a variable; `named` is what gave it."""
        self._layered.add(path, Given(Origin(layer, named), Scalar(None, text, Style.WORD)))

    def _add_runner(self, layer: Layer, runner: Entry) -> None:
        table = self._table(layer, ("runner",), runner)
        if table is None:
            return
        self._check_choice(layer, table)
        for entry in table.entries:
            choice = find(CHOICE, entry.key)
            path = ("runner", entry.key)
            if choice is not None:
                self._add(layer, ("runner", choice.name), entry)
            elif entry.key in SECTIONS:
                self._add_section(layer, path, entry, settings_of(SECTIONS[entry.key]))
            elif entry.key == CLASSES:
                self._add_classes(layer, path, entry)
            elif entry.key in self._runner_names():
                self._add_options(layer, path, entry)
            else:
                message = f"unknown key {entry.key!r}: neither a setting of `runner` nor the name of a runner"
                self._unknown(layer, entry, message, [*RESERVED_NAMES, *self._runner_names()])

    def _check_choice(self, layer: Layer, table: Table) -> None:
        named = [entry for entry in table.entries if find(CHOICE, entry.key) is not None]
        if len({repr(plain(entry.value)) for entry in named}) > 1:
            first, second = named[:2]
            self._faults.add(
                _origin(layer, second.location),
                f"`{first.key}` and `{second.key}` mean the same and contradict each other: "
                f"{plain(first.value)!r} in line {first.location.line}, {plain(second.value)!r} here",
                "keep one of them",
            )

    def _add_section(self, layer: Layer, path: Path, section: Entry, settings: Sequence[Setting]) -> None:
        table = self._table(layer, path, section)
        if table is None:
            return
        seen: dict[str, Entry] = {}
        for entry in table.entries:
            setting = find(settings, entry.key)
            if setting is None:
                self._unknown(layer, entry, f"{'.'.join(path)} has no key {entry.key!r}", names_of(settings))
            elif setting.name in seen:
                first = seen[setting.name]
                message = f"`{first.key}` in line {first.location.line} and `{entry.key}` mean the same"
                self._faults.add(_origin(layer, entry.location), message, "keep one of them")
            else:
                seen[setting.name] = entry
                self._add(layer, (*path, setting.name), entry)

    def _add_classes(self, layer: Layer, path: Path, classes: Entry) -> None:
        table = self._table(layer, path, classes)
        for entry in table.entries if table is not None else ():
            if not _CLASS_NAME.match(entry.key):
                message = f"{entry.key!r} cannot be the name of a resource class"
                self._faults.add(_origin(layer, entry.location), message, "letters, digits, `_` and `-`")
                continue
            self._add_section(layer, (*path, entry.key), entry, CLASS)

    def _add_options(self, layer: Layer, path: Path, section: Entry) -> None:
        """Take in a runner's own options; what they mean is known once its plugin is loaded."""
        table = self._table(layer, path, section)
        for entry in table.entries if table is not None else ():
            self._add(layer, (*path, entry.key), entry)

    def _add(self, layer: Layer, path: Path, entry: Entry) -> None:
        place = entry.value.location or entry.location
        self._layered.add(path, Given(_origin(layer, place), entry.value, entry.location))

    def _table(self, layer: Layer, path: Path, entry: Entry) -> Table | None:
        node = entry.value
        if isinstance(node, Scalar) and node.is_null:
            return None
        if not isinstance(node, Table):
            message = f"{'.'.join(path)} is a mapping, and this is {node.shown_kind}"
            self._faults.add(_origin(layer, node.location or entry.location), message)
            return None
        self._layered.mark(path, Given(_origin(layer, entry.location), node))
        return node

    def _unknown(self, layer: Layer, entry: Entry, message: str, known: Sequence[str]) -> None:
        hint = did_you_mean(entry.key, known) or f"known are: {', '.join(dict.fromkeys(known))}"
        self._faults.add(_origin(layer, entry.location), message, hint)


def adopt_options(layered: Layered, runner: str, settings: Sequence[Setting], faults: Faults) -> None:
    """Hold what the layers say of a runner's options against the options it declares.

    Raises:
        UsageError: `--runner-opt` names an option it does not have.
    """
    prefix = ("runner", runner)
    names = names_of(settings)
    for key in layered.below(prefix):
        setting = find(settings, key)
        if setting is not None:
            if key != setting.name:
                layered.renamed(prefix, key, setting.name)
            continue
        hint = did_you_mean(key, names) or f"it has: {', '.join(sorted(names)) or 'none'}"
        for given in [*layered.values.get((*prefix, key), []), *layered.caps.get((*prefix, key), [])]:
            faults.add(given.origin, f"runner {runner} has no option {key!r}", hint, given.key)


def split_option(word: str) -> tuple[str, str]:
    """Split `key=value` at the first `=`.

    Raises:
        UsageError: there is no `=`, or no key.
    """
    key, separator, value = word.partition("=")
    key = key.strip()
    if not separator or not key:
        raise UsageError(f"--runner-opt {word!r} is not key=value", hint="write --runner-opt key=value")
    return key, value


def _origin(layer: Layer, location: SourceLocation) -> Origin:
    return Origin(layer, str(location), location)
