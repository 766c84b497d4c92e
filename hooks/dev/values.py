"""Values of the rule engine: how EMQX compares them, and the functions that rules call. `None` is `undefined`. A
value that EMQX cannot evaluate raises TypeError, ValueError or IndexError; then the rule does not fire.
"""

import base64
import re
from collections.abc import Callable
from typing import Any

import orjson


def compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """Compares as EMQX does: `undefined` equals only itself; text is read as a number, or as a boolean's name, beside
    one."""
    if left is None or right is None:
        return left is right and compare(0, 0)
    if _is_number(left) and isinstance(right, str | bytes):
        right = number(_text(right))
    elif _is_number(right) and isinstance(left, str | bytes):
        left = number(_text(left))
    elif isinstance(left, bool) and isinstance(right, str | bytes):
        left = _text(left)
    elif isinstance(right, bool) and isinstance(left, str | bytes):
        right = _text(right)
    return compare(_ordered(left), _ordered(right))


def _ordered(value: Any) -> tuple[int, Any]:
    """Erlang orders values of different types by type."""
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, int | float):
        return 0, value
    if isinstance(value, list):
        return 2, value
    if isinstance(value, str):
        return 3, value.encode()
    if isinstance(value, bytes):
        return 3, value
    raise TypeError(f"cannot compare {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(text: str) -> int | float:
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"[+-]?[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?", text):
        return float(text)
    raise ValueError(f"not a number: {text[:40]}")


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"not true or false: {value!r}")
    return value


def _text(value: Any) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | int | float):
        return str(value)
    raise TypeError(f"no text: {value!r}")


def _concat(first: Any, second: Any = "") -> str:
    return "".join(map(_text, first)) if isinstance(first, list) else _text(first) + _text(second)


def _tokens(text: Any, separators: Any) -> list[str]:
    if not isinstance(text, str | bytes) or not isinstance(separators, str):
        raise TypeError(f"tokens of {text!r}")
    return [part for part in re.split("[" + re.escape(separators) + "]", _text(text)) if part]


def _nth(position: Any, items: Any) -> Any:
    if not isinstance(position, int) or not isinstance(items, list):
        raise TypeError(f"nth of {items!r}")
    if not 1 <= position <= len(items):
        raise IndexError(f"nth({position}) of {len(items)}")
    return items[position - 1]


def _base64_encode(value: Any) -> str:
    if not isinstance(value, str | bytes):
        raise TypeError(f"base64_encode of {value!r}")
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def _substr(text: Any, start: Any) -> str:
    if not isinstance(text, str | bytes) or not isinstance(start, int):
        raise TypeError(f"substr of {text!r}")
    return _text(text)[start:]


def _map_get(key: Any, value: Any) -> Any:
    """Returns what stands under the key of a JSON object's text; `undefined` where there is none, or no object."""
    try:
        fields = orjson.loads(value) if isinstance(value, str | bytes) else None
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict) or key not in fields:
        return None
    found = fields[key]
    return "null" if found is None else found


def regex_match(text: Any, pattern: re.Pattern[bytes]) -> bool:
    if not isinstance(text, str | bytes):
        raise TypeError(f"regex_match of {text!r}")
    return pattern.search(text.encode() if isinstance(text, str) else text) is not None


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "is_null": (lambda value: value is None, (1,)),
    "is_not_null": (lambda value: value is not None, (1,)),
    "nth": (_nth, (2,)),
    "tokens": (_tokens, (2,)),
    "concat": (_concat, (1, 2)),
    "base64_encode": (_base64_encode, (1,)),
    "substr": (_substr, (2,)),
    "map_get": (_map_get, (2,)),
}
