"""`dfm schema`: the JSON Schema of flow files, for editors."""

import json
from pathlib import Path

import click

from dfm.api.errors import InfrastructureError
from dfm.core.flow.json_schema import flow_schema, package_map_schema


@click.command(name="schema")
@click.option("--package-map", "is_map", is_flag=True, help="The schema of package maps instead.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of stdout.")
def command(*, is_map: bool, output: str | None) -> None:
    """Print the JSON Schema of flow files.

    An editor that knows YAML schemas completes keys and marks slips of the pen with it while you type.
    """
    text = json.dumps(package_map_schema() if is_map else flow_schema(), indent=2) + "\n"
    if output is None:
        print(text, end="")
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InfrastructureError(f"cannot write {output}: {error.strerror}") from error
