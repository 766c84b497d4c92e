"""The data directory of `emqx-im dev`: one process at a time, its secrets, and where it is found."""

import fcntl
import os
import secrets
import time
import tomllib
from base64 import b64encode
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import orjson

from hooks.dev import EmbeddedError
from hooks.setting_sources import PREFIX, TOML_FILE
from store.private_files import open_private, read_private, write_private

DEFAULT_DIRECTORY = Path(".emqx-im")

# A killed predecessor's Valkey holds the lock until the kernel is done with it.
_LOCK_SECONDS = 2


@dataclass(frozen=True)
class Secrets:
    """Secrets come from `IM_<NAME>` first, then from `emqx-im.toml`; the rest is made once and kept in the
    directory."""

    jwt_secret: str
    hook_token: str
    admin_token: str
    secret: str
    emqx_api_key: str
    emqx_api_secret: str
    events_secret: str
    redis_password: str


@dataclass(frozen=True)
class Ports:
    http_port: int
    mqtt_port: int
    ws_port: int
    api_port: int


@dataclass(frozen=True)
class Running:
    """A live `emqx-im dev`. trusted_send: it runs with IM_TRUSTED_SEND."""

    pid: int
    ports: Ports
    secrets: Secrets
    trusted_send: bool


class DataDirectory:
    """Locked while this object is open, and while a child that inherited `lock` lives."""

    def __init__(self, path: Path, lock: int, kept: Secrets) -> None:
        self.path = path
        self.lock = lock
        self.secrets = kept

    @classmethod
    def open(cls, path: Path) -> Self:
        """Makes and locks the directory. Raises EmbeddedError: not writable, or in use."""
        path = path.absolute()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.stat().st_uid != os.geteuid():
                raise EmbeddedError(f"data directory {path} belongs to somebody else, who could read all that is in it")
            lock = open_private(path / "lock")
        except OSError as error:
            raise EmbeddedError(f"data directory {path} cannot be written: {error.strerror}") from None
        try:
            _wait_for_lock(lock, path)
            return cls(path, lock, _kept_secrets(path))
        except BaseException:
            os.close(lock)
            raise

    def announce(self, ports: Ports, *, trusted_send: bool = False) -> None:
        """Lets `find_running` find this process."""
        _write(self.path / "running.json", {"pid": os.getpid(), "trusted_send": trusted_send, **asdict(ports)})

    def close(self) -> None:
        (self.path / "running.json").unlink(missing_ok=True)
        os.close(self.lock)


def find_running(path: Path = DEFAULT_DIRECTORY) -> Running | None:
    """Returns the `emqx-im dev` that lives in `path`; None if there is none."""
    try:
        running = orjson.loads(read_private(path / "running.json"))
        kept = orjson.loads(read_private(path / "secrets.json"))
        lock = open_private(path / "lock")
    except OSError:
        return None
    try:
        if _locked(lock):
            return None
    finally:
        os.close(lock)
    ports = Ports(**{field.name: running[field.name] for field in fields(Ports)})
    return Running(running["pid"], ports, _overlaid(kept), running["trusted_send"])


def _wait_for_lock(lock: int, path: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while not _locked(lock):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"data directory {path} is in use by another emqx-im dev")
        time.sleep(0.05)


def _locked(lock: int) -> bool:
    """Returns whether the lock could be taken."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kept_secrets(path: Path) -> Secrets:
    """Returns the secrets, made and written where the directory has none yet."""
    file = path / "secrets.json"
    try:
        kept: dict[str, str] = orjson.loads(read_private(file)) if os.path.lexists(file) else {}
        missing = [field.name for field in fields(Secrets) if field.name not in kept]
        if missing:
            kept |= {name: _new_secret(name) for name in missing}
            _write(file, kept)
    except OSError as error:
        raise EmbeddedError(f"{file} cannot be written: {error.strerror}") from None
    except orjson.JSONDecodeError:
        raise EmbeddedError(f"{file} is damaged: delete it, and new secrets are made") from None
    return _overlaid(kept)


def _new_secret(name: str) -> str:
    if name == "events_secret":
        # As Standard Webhooks write a key.
        return "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)


def _overlaid(kept: dict[str, str]) -> Secrets:
    given = _from_file() | {
        field.name: os.environ[PREFIX + field.name.upper()]
        for field in fields(Secrets)
        if os.environ.get(PREFIX + field.name.upper())
    }
    return Secrets(**{field.name: given.get(field.name) or kept[field.name] for field in fields(Secrets)})


def _from_file() -> dict[str, str]:
    """Returns what `emqx-im.toml` says; a damaged file is the settings' to report."""
    try:
        given = tomllib.loads(TOML_FILE.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    return {name: value for name, value in given.items() if isinstance(value, str)}


def _write(file: Path, content: dict[str, Any]) -> None:
    write_private(file, orjson.dumps(content, option=orjson.OPT_INDENT_2), durable=True)
