"""The command line, `emqx-im`: one module per group of commands."""

import sys

import typer

from hooks import __version__
from hooks.cli import events, rules, tags
from hooks.cli.aggregate import aggregate
from hooks.cli.archive import archive, migrate
from hooks.cli.chat.command import chat
from hooks.cli.dev import dev
from hooks.cli.doctor import doctor
from hooks.cli.reconcile import reconcile
from hooks.cli.reshard import reshard
from hooks.cli.serve import serve
from hooks.cli.store import rebuild, sweep
from hooks.cli.terminal import show_substitutes
from hooks.cli.token import token
from hooks.setting_sources import SettingsError

app = typer.Typer(
    name="emqx-im",
    help="An instant-messaging server beside the EMQX broker.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (dev, serve, migrate, archive, aggregate, sweep, rebuild, reshard, reconcile, token, chat, doctor):
    app.command()(command)
app.add_typer(rules.app, name="rules")
app.add_typer(tags.app, name="tags")
app.add_typer(events.app, name="events")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def main() -> None:
    """Runs a command. A setting that is missing or malformed ends it with one line that names it."""
    show_substitutes()
    try:
        app()
    except SettingsError as error:
        sys.exit(f"emqx-im: {error}")
