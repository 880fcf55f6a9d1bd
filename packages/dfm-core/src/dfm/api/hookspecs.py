"""The hooks a plugin may implement (pluggy project name `dfm`).

A runner's module is named by an entry point of the group `dfm_runners`; it implements `dfm_runner` with `hookimpl`.
"""

import pluggy

from dfm.api.runner import RunnerPlugin

PROJECT = "dfm"
RUNNER_GROUP = "dfm_runners"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def dfm_runner() -> RunnerPlugin:  # type: ignore[empty-body]  # a hookspec has no body
    """Return what this plugin brings: its name, its options, and how it is opened."""
