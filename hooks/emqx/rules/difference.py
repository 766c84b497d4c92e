"""Compares what EMQX has with what it should have: only our keys, with equal values however they are written."""

import re
from typing import Any, NamedTuple

REDACTED = "******"
"""EMQX shows secrets like this, so that they cannot be compared."""

_SECRETS = frozenset(["secret", "authorization", "password"])
_SPACE = re.compile(r"\s+")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|b|kb|mb|gb)", re.IGNORECASE)
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000} | {
    "b": 1,
    "kb": 1024,
    "mb": 1024**2,
    "gb": 1024**3,
}


class Difference(NamedTuple):
    """path: dotted keys. old: None if there is nothing. Secrets are hidden in both."""

    path: str
    old: Any
    new: Any


def differences(wanted: Any, held: Any, path: str = "") -> list[Difference]:
    """Returns what of `wanted` is not so in `held`; what `held` has besides is nobody's business."""
    if isinstance(wanted, dict):
        held = _as_object(held)
        return [
            difference
            for key, value in wanted.items()
            for difference in differences(value, held.get(key), f"{path}.{key}" if path else key)
        ]
    if _is_list_of_objects(wanted) and isinstance(held, list) and len(held) == len(wanted):
        return [
            difference
            for number, (one, other) in enumerate(zip(wanted, held, strict=True))
            for difference in differences(one, other, f"{path}.{number}")
        ]
    if held == REDACTED or _canonical(wanted) == _canonical(held):
        return []
    if path.rpartition(".")[2].lower() in _SECRETS:
        return [Difference(path, None if held is None else REDACTED, REDACTED)]
    return [Difference(path, held, wanted)]


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def amount(value: Any) -> float | None:
    """Returns a duration in milliseconds, or a size in bytes; None if it is neither."""
    found = _canonical(value)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def has_secret(value: Any) -> bool:
    """Returns whether something in it is hidden by EMQX."""
    if isinstance(value, dict):
        return any(key.lower() in _SECRETS or has_secret(item) for key, item in value.items())
    return isinstance(value, list) and any(map(has_secret, value))


def overlaid(held: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Returns `held` with the values of `wanted`."""
    merged = dict(held)
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = overlaid(merged[key], value)
        else:
            merged[key] = value
    return merged


def shown(held: dict[str, Any]) -> dict[str, Any]:
    """Returns `held` without what EMQX hides: written back, the stars could become the secret."""
    return {key: shown(value) if isinstance(value, dict) else value for key, value in held.items() if value != REDACTED}


def _as_object(held: Any) -> dict[str, Any]:
    """Returns an object; a list of names and values is one too."""
    if isinstance(held, list) and all(isinstance(item, dict) and "name" in item for item in held):
        return {item["name"]: item.get("value") for item in held}
    return held if isinstance(held, dict) else {}


def _canonical(value: Any) -> Any:
    """Returns durations as milliseconds, sizes as bytes, and texts without their layout."""
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if not isinstance(value, str):
        return value
    if value in ("true", "false"):
        return value == "true"
    if value.isdecimal():
        return int(value)
    if amount := _AMOUNT.fullmatch(value):
        return float(amount[1]) * _UNITS[amount[2].lower()]
    if value.endswith("/1s"):
        value = value.removesuffix("/1s") + "/s"
    return _SPACE.sub(" ", value).strip()
