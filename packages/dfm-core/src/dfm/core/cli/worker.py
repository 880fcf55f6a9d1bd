"""`dfm worker`: what a batch job starts; people have no need to."""

import click


@click.command(
    name="worker", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.pass_context
def command(context: click.Context) -> None:
    """Run tasks for the daemon of an access file; started by batch jobs."""
    from dfm.core.worker.main import main

    context.exit(main(context.args))
