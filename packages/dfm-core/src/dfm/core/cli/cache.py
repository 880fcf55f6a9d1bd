"""`dfm cache`: directories in which results outlive their run directory."""

import os

import click

from dfm.api.errors import InfrastructureError


@click.group(name="cache")
def command() -> None:
    """Keep results of tasks with `cache: true` for other run directories and other people.

    DV_FLOW_CACHE names the directory, or a YAML file with several:
    `caches: [{type: directory, path: DIR, writable: true}]`.
    """


@command.command(name="init")
@click.argument("directory")
@click.option("--shared", is_flag=True, help="Let everybody in the directory's group write it.")
def init(*, directory: str, shared: bool) -> None:
    """Make DIRECTORY a cache."""
    from dfm.core.record.cache import VARIABLE, init_cache

    path = os.path.abspath(directory)
    try:
        init_cache(path, is_shared=shared)
    except OSError as error:
        raise InfrastructureError(f"cannot make the cache {path}: {error.strerror}") from error
    print(f"{path} is a cache; export {VARIABLE}={path}")
