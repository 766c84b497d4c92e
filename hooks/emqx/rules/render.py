"""Renders `emqx-rules/`: reads the files and fills in this installation's names and secrets."""

import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from hooks.emqx.rules import files as rule_files
from hooks.emqx.rules import hocon
from hooks.emqx.rules.files import REPUBLISH
from hooks.emqx.versions import NEW_LIMITS, Version
from hooks.setting_sources import SettingsError
from hooks.settings import BrokerSettings, HookSettings, UserTokenSettings

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")
_COMMENT = re.compile(r"^\s*--.*\n?", re.MULTILINE)
_ACTION = re.compile(r"^-- Action: (\w+)$", re.MULTILINE)

HOOK_URL_MISSING = "IM_HOOK_URL (or --hook-url): required; set it to the address at which EMQX reaches the service"


@dataclass(frozen=True)
class Parameters:
    """The values that differ between installations. hook_token: the one that EMQX sends. One of the two jwt_… is
    set, and neither if only the rules are wanted.

    trusted_send: with what lies in `trusted/`.
    """

    name: str
    hook_url: str
    hook_token: str
    jwt_secret: str | None
    jwt_jwks_url: str | None
    trusted_send: bool = False

    @classmethod
    def of(
        cls,
        broker: BrokerSettings,
        hooks: HookSettings,
        user_tokens: UserTokenSettings | None,
        name: str = "emqx_im",
        hook_url: str | None = None,
    ) -> "Parameters":
        """Reads them from the settings. user_tokens: None where only the rules are wanted. Raises SettingsError."""
        url = hook_url or broker.hook_url
        if url is None:
            raise SettingsError(HOOK_URL_MISSING)
        if not url.startswith(("http://", "https://")):
            raise SettingsError("--hook-url: must start with http:// or https://")
        if not _NAME.fullmatch(name):
            raise SettingsError("--name: must consist of a-z, 0-9 and _, and begin with a letter")
        if user_tokens is not None and user_tokens.required().jwt_secret and user_tokens.jwt_jwks_url:
            raise SettingsError("IM_JWT_SECRET, IM_JWT_JWKS_URL: EMQX verifies by one of them; leave the other empty")
        return cls(
            name,
            url.rstrip("/"),
            hooks.hook_token[0],
            user_tokens.jwt_secret if user_tokens else None,
            user_tokens.jwt_jwks_url if user_tokens else None,
            broker.trusted_send,
        )


@dataclass(frozen=True)
class Rule:
    """One `*.sql`. sql: without comments, which EMQX need not take.

    action: the name of the action that carries what it selects; None if EMQX republishes it, as `republish` says.
    """

    id: str
    sql: str
    action: str | None
    description: str
    republish: dict[str, Any] | None = None

    @property
    def does(self) -> str | dict[str, Any]:
        """Returns the one entry of EMQX's list of its actions."""
        return f"http:{self.action}" if self.action else {"function": REPUBLISH, "args": self.republish}


class Rules:
    """The whole configuration, as EMQX's configuration file has it: root key to what stands under it."""

    def __init__(self, parameters: Parameters, directory: Traversable | None = None) -> None:
        """Raises HoconError if a file is not understood, ValueError where two files contradict."""
        self.parameters = parameters
        self._directory = directory or files("hooks") / "rules"
        name = parameters.name
        jwt = "authentication" if parameters.jwt_secret else "authentication-jwks"
        self.authentication: list[dict[str, Any]] = self._read(jwt)["authentication"]
        self.authorization: dict[str, Any] = self._read("authorization")["authorization"]
        self.broker = self._read("broker")
        self._before = self._read("before-5.9")
        self._since = self._read("from-5.9")
        webhook = self._read("webhook")
        self.connectors: dict[str, Any] = webhook["connectors"]["http"]
        self.actions: dict[str, Any] = webhook["actions"]["http"]
        sql_files = rule_files.sql_files(self._directory, trusted_send=parameters.trusted_send)
        self.rules = [self._rule(file, name) for file in sql_files]
        for rule in self.rules:
            if rule.action is not None and rule.action not in self.actions:
                raise ValueError(f"rule {rule.id} names the action {rule.action}, which webhook.hocon does not have")

    def for_version(self, version: Version) -> dict[str, Any]:
        """Returns what is told to EMQX of this version besides: root key to what stands under it.

        `listeners`: what each listener of clients has to have.
        """
        return self._since if version >= NEW_LIMITS else self._before

    @cached_property
    def acl(self) -> str:
        return rule_files.acl(self._directory, trusted_send=self.parameters.trusted_send)

    def rule_bodies(self) -> dict[str, dict[str, Any]]:
        """Returns for each rule id what EMQX stores of it."""
        return {
            rule.id: {
                "enable": True,
                "description": rule.description,
                "actions": [rule.does],
                "sql": rule.sql,
            }
            for rule in self.rules
        }

    def webhook(self) -> dict[str, Any]:
        """Returns connectors, actions and rules."""
        return {
            "connectors": {"http": self.connectors},
            "actions": {"http": self.actions},
            "rule_engine": {"rules": self.rule_bodies()},
        }

    def _rule(self, file: Traversable, name: str) -> Rule:
        text = file.read_text("utf-8")
        sql = _COMMENT.sub("", text).strip() + "\n"
        if "--" in sql:
            raise ValueError(f"{file.name}: a comment must be on its own line")
        named = _ACTION.search(text)
        action = f"{name}_{named[1]}" if named else name
        republishes = named is not None and named[1] == REPUBLISH
        return Rule(
            id=f"{name}_{file.name.removesuffix('.sql')}",
            sql=sql,
            action=None if republishes else action,
            description=text.splitlines()[0].removeprefix("--").split(". ")[0].strip(" ."),
            republish=rule_files.republish(self._directory) if republishes else None,
        )

    def _read(self, name: str) -> dict[str, Any]:
        text = (self._directory / f"{name}.hocon").read_text("utf-8")
        filled: dict[str, Any] = self._filled(hocon.read(text, f"{name}.hocon"))
        return filled

    def _filled(self, value: Any) -> Any:
        """Replaces placeholders; one that stands alone gets the type of its value."""
        if isinstance(value, dict):
            return {self._filled(key): self._filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if not isinstance(value, str):
            return value
        if alone := _PLACEHOLDER.fullmatch(value):
            return self._parameter(alone[1])
        return _PLACEHOLDER.sub(lambda found: str(self._parameter(found[1])), value)

    def _parameter(self, name: str) -> Any:
        match name:
            case "acl":
                return self.acl
            case "hook_tls":
                return self.parameters.hook_url.startswith("https://")
            case "jwt_jwks_tls":
                return str(self.parameters.jwt_jwks_url).startswith("https://")
        return getattr(self.parameters, name)
