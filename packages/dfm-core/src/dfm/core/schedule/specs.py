"""Tasks that code asks for, read without trusting it: items of type `std.TaskRunSpec`, mappings, or YAML text."""

from collections.abc import Iterable, Mapping, Sequence

from dfm.api.items import Item
from dfm.core.flow.model import DEFAULT_SHELL
from dfm.core.graph.growth import TaskSpec
from dfm.core.suggest import did_you_mean

TASK_RUN_SPEC = "std.TaskRunSpec"
_KEYS = ("type", "name", "params", "needs", "run", "shell")
_WRITTEN = {"uses": "type", "with": "params", "task_type": "type", "task_name": "name"}


class SpecError(Exception):
    """What is asked for cannot be understood; the text is for whoever wrote the code."""


def specs_from_items(items: Iterable[Item], asker: str) -> list[TaskSpec]:
    """Return the tasks that items of type `std.TaskRunSpec` ask for.

    Raises:
        SpecError: one is incomplete, or two have one name.
    """
    found = [item for item in items if item.get("type") == TASK_RUN_SPEC]
    return specs_of([{key: item[key] for key in _ITEM_KEYS if key in item} for item in found], asker)


_ITEM_KEYS = ("task_type", "task_name", "params", "needs")


def specs_from_text(text: str, asker: str) -> list[TaskSpec]:
    """Return the tasks that a list in YAML or JSON asks for: `name`, `uses`, `with`, `needs`, `run`, `shell` of each.

    Raises:
        SpecError: it is no such list.
    """
    import yaml  # noqa: PLC0415  (few flows have a script that prints tasks)

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"what its generator prints is no YAML: {' '.join(str(error).split())}") from None
    if isinstance(value, Mapping) and set(value) == {"tasks"}:
        value = value["tasks"]
    return specs_of([] if value is None else value, asker)


def specs_of(values: object, asker: str) -> list[TaskSpec]:
    """Return the tasks that a list of mappings asks for.

    Raises:
        SpecError: it is no such list.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise SpecError(f"{asker} does not ask for a list of tasks, but for {values!r:.60}")
    specs: dict[str, TaskSpec] = {}
    for number, value in enumerate(values):
        spec = _spec(value, number)
        if spec.name in specs:
            raise SpecError(f"{asker} asks for two tasks named {spec.name!r}")
        specs[spec.name] = spec
    return list(specs.values())


def _spec(value: object, number: int) -> TaskSpec:
    if not isinstance(value, Mapping):
        raise SpecError(f"task {number} of the list is no mapping, but {value!r:.60}")
    given = {_WRITTEN.get(str(key), str(key)): item for key, item in value.items()}
    for key in given:
        if key not in _KEYS:
            hint = did_you_mean(key, [*_KEYS, *_WRITTEN])
            more = f"; {hint}" if hint else ""
            raise SpecError(f"task {number} of the list has a {key!r}, which has no meaning here{more}")
    kind, params, needs = given.get("type"), given.get("params") or {}, given.get("needs") or []
    run, shell = given.get("run"), given.get("shell", DEFAULT_SHELL)
    if not isinstance(run, str | None) or not isinstance(shell, str):
        raise SpecError(f"task {number} of the list has a `run` or `shell` that is no text")
    if run is None and "shell" in given:
        raise SpecError(f"task {number} of the list has a `shell` and no `run`")
    if not isinstance(kind, str | None) or (not kind and run is None):
        raise SpecError(f"task {number} of the list says neither which task it is made of (`type`) nor what to `run`")
    name = given.get("name") or f"{(kind or 'task').rpartition('.')[2]}_{number}"
    needs = [needs] if isinstance(needs, str) else needs
    if not isinstance(name, str) or not isinstance(params, Mapping) or not _are_names(needs):
        raise SpecError(f"task {number} of the list has a name, params or needs of a wrong type")
    own = {str(key): item for key, item in params.items()}
    return TaskSpec(type=kind or "", name=name, params=own, needs=needs, run=run, shell=shell)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
