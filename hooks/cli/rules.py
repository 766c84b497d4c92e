"""Implements `emqx-im rules`: the configuration of EMQX as a file, through its REST API, and a comparison."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path

import typer
from rich.console import Console

from hooks.emqx.management import Management
from hooks.emqx.rest import BrokerAway, BrokerRefused
from hooks.emqx.rules import apply as applying
from hooks.emqx.rules.check import ResourceFinding, compare
from hooks.emqx.rules.export import ACL_PATH, archive, configuration, plain
from hooks.emqx.rules.render import Parameters, Rules
from hooks.emqx.rules.resources import manageable, trusted_sending, way
from hooks.emqx.versions import Version, target_version
from hooks.setting_sources import SettingsError
from hooks.settings import BrokerSettings, HookSettings, UserTokenSettings, load
from store.private_files import write_private

_STYLES = {"+": "green", "~": "yellow", "-": "red"}
_LEFT = (
    "kept: the JWT authenticator (without it everybody is let in), and settings of mqtt, retainer, delayed, listeners"
)
_REPLACED = (
    "note: an import replaces mqtt, retainer and delayed as a whole; your own changes there are reset to defaults"
)
_LISTENERS = "note: the file does not contain the rates of listeners; run `emqx-im rules apply` to set them"
_NODE_CACHE = (
    "note: pass --for for EMQX 6.2 and newer: their node's permission cache must be off, which 5.8 does not know"
)

app = typer.Typer(help="Bring emqx-im's rules and settings into EMQX: export, apply, check.", no_args_is_help=True)
console = Console(highlight=False, soft_wrap=True)


class Only(StrEnum):
    """The parts that can be selected."""

    rules = "rules"


class Format(StrEnum):
    archive = "archive"
    hocon = "hocon"


_HOOK_URL = typer.Option(None, help="Address at which EMQX reaches the service, instead of IM_HOOK_URL.")
_NAME = typer.Option("emqx_im", help="Name of connector and action, and prefix of the rules' ids.")
_ONLY = typer.Option(
    None, help="Only connector, actions and rules, without authentication, authorization and settings."
)


@app.command()
def export(
    output: Path = typer.Option(..., "--output", "-o", help="The file to write."),
    hook_url: str | None = _HOOK_URL,
    name: str = _NAME,
    only: Only | None = _ONLY,
    form: Format = typer.Option(Format.archive, "--format", help="A backup to upload, or HOCON for `conf load`."),
    for_: str | None = typer.Option(None, "--for", help="The version of EMQX that will read the file, such as 6.2."),
) -> None:
    """Write a backup for EMQX's dashboard (FILE.tar.gz), or HOCON for its command line and base.hocon."""
    version = _target(for_, only)
    rules = _rules(hook_url, name, only)
    content = configuration(rules, only_rules=only is not None, version=version)
    try:
        if form is Format.archive:
            write_private(output, archive(content, output.name, version))
        else:
            write_private(output, plain(content).encode())
            if only is None:
                acl = output.with_name("emqx-im-acl.conf")
                write_private(acl, rules.acl.encode(), mode=0o644)
                typer.echo(f"note: first copy {acl} to {ACL_PATH} on every EMQX node", err=True)
    except ValueError as error:
        sys.exit(f"emqx-im: --output: {error}")
    except OSError as error:
        sys.exit(f"emqx-im: --output: {error.filename}: {error.strerror}")
    if only is None:
        notes = [_REPLACED, _LISTENERS, *([] if version else [_NODE_CACHE])]
        typer.echo("\n".join(notes), err=True)
    typer.echo(f"written: {output}")


@app.command()
def apply(
    hook_url: str | None = _HOOK_URL,
    name: str = _NAME,
    only: Only | None = _ONLY,
    dry_run: bool = typer.Option(False, "--dry-run", help="Only show what would change."),
    secrets: bool = typer.Option(
        False, "--secrets", help="Write all secrets again, because EMQX does not show whether they differ."
    ),
    replace: bool = typer.Option(False, "--replace", help="Overwrite what somebody else made."),
    remove: bool = typer.Option(False, "--remove", help="Remove everything that emqx-im made."),
) -> None:
    """Show what differs in a running EMQX, and apply the rules to it through its REST API."""
    rules = _rules(hook_url, name, only)
    if remove:
        _run(lambda api: _remove(api, rules, only is not None, dry_run))
    else:
        _run(lambda api: _apply(api, rules, only is not None, secrets, replace, dry_run))


@app.command()
def check(hook_url: str | None = _HOOK_URL, name: str = _NAME, only: Only | None = _ONLY) -> None:
    """Compare a running EMQX with the files; exit with status 1 if they differ. Secrets cannot be compared."""
    rules = _rules(hook_url, name, only)

    async def work(api: Management) -> None:
        findings = await compare(api, rules, only_rules=only is not None)
        runs, wanted = await trusted_sending(api, rules), rules.parameters.trusted_send
        fits = "as" if runs == wanted else "not as"
        console.print(f"users send {way(trusted=runs)}, {fits} IM_TRUSTED_SEND={str(wanted).lower()} says")
        if _show(findings):
            raise typer.Exit(1)
        console.print(f"EMQX has all {len(findings)} parts; secrets cannot be compared")

    _run(work)


async def _apply(api: Management, rules: Rules, only_rules: bool, secrets: bool, replace: bool, dry_run: bool) -> None:
    findings = await compare(api, rules, only_rules=only_rules, secrets=secrets)
    if not _show(findings):
        console.print("nothing to change")
        return
    foreign = [finding.resource.label for finding in findings if finding.foreign]
    if foreign and not replace:
        sys.exit(f"emqx-im: somebody else made {', '.join(foreign)}; --replace overwrites it")
    if dry_run:
        return
    try:
        left = await applying.write(api, findings, lambda label: console.print(f"written: {label}"))
    except (applying.Unfinished, BrokerAway, BrokerRefused) as error:
        sys.exit(f"emqx-im: {error}\nwhat was written works; run the same command again to write the rest")
    if _show(left):
        sys.exit("emqx-im: EMQX accepted these but did not change them: emqx.conf or its environment may pin them")


async def _remove(api: Management, rules: Rules, only_rules: bool, dry_run: bool) -> None:
    if users := await applying.users_of_ours(api, rules):
        sys.exit(f"emqx-im: other rules use emqx-im's action, change them first: {', '.join(users)}")
    there = await applying.ours_there(api, rules, only_rules=only_rules)
    for resource in there:
        console.print(f"- {resource.label}", style=_STYLES["-"])
    if not dry_run:
        await applying.remove(api, there, lambda label: console.print(f"removed: {label}"))
    console.print(_LEFT if not only_rules else "kept: authentication, authorization and settings")


def _target(given: str | None, only: Only | None) -> Version | None:
    """Returns the version named by `--for`; ends the program if it does not fit."""
    if given is None:
        return None
    if only is not None:
        sys.exit("emqx-im: --for: the rules are the same for every version; leave out --for or --only")
    try:
        return target_version(given)
    except ValueError as error:
        sys.exit(f"emqx-im: --for: {error}")


def _rules(hook_url: str | None, name: str, only: Only | None) -> Rules:
    user_tokens = load(UserTokenSettings) if only is None else None
    return Rules(Parameters.of(load(BrokerSettings), load(HookSettings), user_tokens, name, hook_url))


def _show(findings: list[ResourceFinding]) -> bool:
    """Prints what differs; returns whether anything does."""
    lines = [line for finding in findings if finding.differences for line in finding.lines]
    for line in lines:
        console.print(line, style=_STYLES.get(line.strip()[:1]), markup=False)
    return bool(lines)


def management(settings: BrokerSettings) -> Management:
    """Raises SettingsError."""
    if settings.emqx_api_url is None:
        raise SettingsError("IM_EMQX_API_URL: required; set it to the address of EMQX's REST API")
    for name in ("emqx_api_key", "emqx_api_secret"):
        if not getattr(settings, name):
            raise SettingsError(f"IM_{name.upper()}: required for EMQX's REST API")
    return Management(settings.emqx_api_url, settings.emqx_api_key, settings.emqx_api_secret)


def _run(work: Callable[[Management], Awaitable[None]]) -> None:
    async def connected() -> None:
        async with management(load(BrokerSettings)) as api:
            if not await manageable(api):
                sys.exit(f"emqx-im: IM_EMQX_API_URL: {api.url} is not EMQX; emqx-im dev runs the rules by itself")
            await work(api)

    try:
        asyncio.run(connected())
    except (BrokerAway, BrokerRefused) as error:
        sys.exit(f"emqx-im: IM_EMQX_API_URL: {error}")
