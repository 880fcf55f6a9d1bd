"""`dfm worker`: what a batch job starts; `python -m dfm.core.worker` is the same, and starts faster."""

import click


@click.command(
    name="worker",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(*, words: tuple[str, ...]) -> None:
    """Run tasks for a daemon. Batch jobs start this; a person has no need to."""
    from dfm.core.worker.main import main

    main(words)
