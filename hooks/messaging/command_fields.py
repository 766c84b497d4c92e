"""Fields of commands, as clients give them. Each raises ValueError with what is wrong."""

from collections.abc import Mapping
from typing import Any

from store.addresses import number
from store.groups.groups import MAX_MEMBERS, READ, WRITE


def uids(fields: Mapping[str, Any], field: str, limit: int = MAX_MEMBERS) -> tuple[int, ...]:
    """Returns each user once, in the order given; none where the field is missing.

    If one is not a uid, none is returned: raises ValueError.
    """
    given = fields.get(field)
    if given is None:
        return ()
    if type(given) is not list:
        raise ValueError(f"`{field}` is not a list")
    if len(given) > limit:
        raise ValueError(f"`{field}` names more than {limit}")
    return tuple(dict.fromkeys(uid(each, f"`{field}`") for each in given))


def uid(given: object, where: str) -> int:
    """Returns a uid as number or decimal string. Raises ValueError."""
    found = number(given) if type(given) is str else number(str(given)) if type(given) is int else None
    if found is None:
        raise ValueError(f"{where}: {str(given)[:40]!r} is not a user id")
    return found


def somebody(fields: Mapping[str, Any]) -> tuple[int, ...]:
    members = uids(fields, "members")
    if not members:
        raise ValueError("`members` names nobody")
    return members


def text(fields: Mapping[str, Any], field: str, longest: int) -> str | None:
    """Returns None where the field is missing. longest: characters."""
    given = fields.get(field)
    if given is None:
        return None
    if type(given) is not str or len(given) > longest:
        raise ValueError(f"`{field}` is not a string of at most {longest} characters")
    return given


def flag(fields: Mapping[str, Any], field: str) -> bool | None:
    """Returns None where the field is missing."""
    given = fields.get(field)
    if given is None:
        return None
    if type(given) is not bool:
        raise ValueError(f"`{field}` is neither true nor false")
    return given


def mode(fields: Mapping[str, Any], default: str | None) -> str:
    given = fields.get("mode")
    if given is None and default is not None:
        return default
    if given not in (WRITE, READ):
        raise ValueError("`mode` is neither write nor read")
    return str(given)
