"""Where settings come from: the environment (`IM_…`), else a file in `/run/secrets`, else `emqx-im.toml`."""

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

PREFIX = "IM_"
TOML_FILE = Path("emqx-im.toml")
SECRETS = Path("/run/secrets")
"""Where containers get their secrets: a file for each setting, named like its variable."""


class SettingsError(Exception):
    """A setting is missing or malformed; the message is one line that names it."""


def read(names: Collection[str]) -> dict[str, Any]:
    """Returns what is given for these settings, by name (`http_port`): as text, but what the TOML file says in its
    own types.

    An empty variable counts as not given. Raises SettingsError if a source cannot be read.
    """
    found = {name: value for name, value in _file().items() if name in names}
    found |= _secrets(names)
    variables = {variable.lower(): value for variable, value in os.environ.items()}
    for name in names:
        if value := variables.get(PREFIX.lower() + name):
            found[name] = value
    return found


def unknown_names(names: Collection[str]) -> list[str]:
    """Returns `IM_…` variables in the environment, and keys in the TOML file, that are none of these settings."""
    known = {PREFIX + name.upper() for name in names}
    variables = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    return variables + sorted(f"{TOML_FILE}: {key}" for key in _file() if key not in names)


def _file() -> dict[str, Any]:
    try:
        return tomllib.loads(TOML_FILE.read_text("utf-8")) if TOML_FILE.is_file() else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{TOML_FILE}: {error}") from None


def _secrets(names: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        for path in SECRETS.iterdir() if SECRETS.is_dir() else ():
            name = path.name.lower().removeprefix(PREFIX.lower())
            if name in names and path.name.upper().startswith(PREFIX) and path.is_file():
                found[name] = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{SECRETS}: {error}") from None
    return found
