"""Selects the files of `emqx-rules/`: with trusted sending, those in `trusted/` too."""

from importlib.resources.abc import Traversable
from typing import Any

from hooks.emqx.rules import hocon

REPUBLISH = "republish"
"""The action of EMQX's own that a rule may name; its arguments are in `trusted/republish.hocon`."""


def sql_files(directory: Traversable, *, trusted_send: bool) -> list[Traversable]:
    """Returns the rules, by name."""
    directories = [directory, directory / "trusted"] if trusted_send else [directory]
    found = [file for each in directories for file in each.iterdir() if file.name.endswith(".sql")]
    return sorted(found, key=lambda file: file.name)


def acl(directory: Traversable, *, trusted_send: bool) -> str:
    """Returns the file rules."""
    return ((directory / "trusted" if trusted_send else directory) / "acl.conf").read_text("utf-8")


def republish(directory: Traversable) -> dict[str, Any]:
    """Returns the arguments of the action `republish`."""
    name = f"{REPUBLISH}.hocon"
    return hocon.read((directory / "trusted" / name).read_text("utf-8"), name)
