"""The hooks a plugin may implement (pluggy project name `dfm`).

A runner's module is named by an entry point of the group `dfm_runners`; it implements `dfm_runner` with `hookimpl`.
A module that brings task packages is named by an entry point of the group `dfm_packages`, once for each package and
under the package's name; it implements `dfm_packages`.
"""

from collections.abc import Mapping

import pluggy

from dfm.api.runner import RunnerPlugin

PROJECT = "dfm"
RUNNER_GROUP = "dfm_runners"
PACKAGE_GROUP = "dfm_packages"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def dfm_runner() -> RunnerPlugin:  # type: ignore[empty-body]  # a hookspec has no body
    """Return what this plugin brings: its name, its options, and how it is opened."""


@hookspec
def dfm_packages() -> Mapping[str, str]:  # type: ignore[empty-body]  # a hookspec has no body
    """Return the task packages this plugin brings: name to absolute path of the flow file."""
