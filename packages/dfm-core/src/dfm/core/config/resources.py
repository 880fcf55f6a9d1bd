"""What a task gets of the machine: its class, else its own tag, else the defaults; and what it may grow into."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from msgspec import Struct

from dfm.api.errors import FlowError
from dfm.api.runner import Resources
from dfm.core.config.settings import ResourceClass, ResourceDefaults
from dfm.core.suggest import did_you_mean

T = TypeVar("T")


class ResourceRules(Struct, frozen=True):
    """The defaults and the classes that the settings hold."""

    defaults: ResourceDefaults
    classes: Mapping[str, ResourceClass]

    def resolve(self, asked: Resources | None) -> Resources:
        """Return what the task gets, each amount said by the first of: the class its tag names, the tag, the defaults.

        A queue stays None where neither class nor tag names one: the runner's own option is the default. Predicates
        of class and tag are joined; those of the runner's options are added by its dialect. A task that may grow gets,
        after it ran out of memory, what the `next` of its class gives; a class without more memory is passed over.

        Args:
            asked: what the task's tag says, 0 cores where it leaves them out; None where it has no tag.

        Raises:
            FlowError: the tag names a class that the settings do not have.
        """
        tag = asked if asked is not None else Resources(cores=0)
        chosen = self._class(tag.resource_class)
        found = Resources(
            cores=chosen.cores or tag.cores or self.defaults.cores,
            memory_bytes=_first(chosen.memory, tag.memory_bytes, self.defaults.memory),
            wall_seconds=_first(chosen.walltime, tag.wall_seconds, self.defaults.walltime),
            queue=_first(chosen.queue, tag.queue, None),
            resource_class=tag.resource_class,
            resource_select=tuple(dict.fromkeys((*chosen.resource_select, *tag.resource_select))),
            may_grow=tag.may_grow,
        )
        return replace(found, larger=self._larger(tag, found)) if tag.may_grow else found

    def _larger(self, tag: Resources, small: Resources) -> Resources | None:
        """Return what a task gets that was too large for `small`; settings with a circle of classes are refused."""
        following = self._class(tag.resource_class).next
        if following is None or small.memory_bytes is None:
            return None
        found = self.resolve(replace(tag, resource_class=following))
        has_more = found.memory_bytes is None or found.memory_bytes > small.memory_bytes
        return found if has_more else self._larger(replace(tag, resource_class=following), small)

    def _class(self, name: str | None) -> ResourceClass:
        if name is None:
            return ResourceClass()
        if name not in self.classes:
            known = f"`runner.resource_classes` has: {', '.join(self.classes) or 'none'}"
            raise FlowError(f"there is no resource class {name!r}", hint=did_you_mean(name, self.classes) or known)
        return self.classes[name]


def _first(chosen: T | None, tag: T | None, default: T | None) -> T | None:
    return chosen if chosen is not None else tag if tag is not None else default
