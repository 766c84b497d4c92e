"""Reads JSON web tokens as EMQX 5.8 does: the signature, `exp` and `nbf` count, and no other claim is looked at. A
token's holder or an identity provider may send anything: it is refused by BadToken, whose message has no part of the
token.
"""

import binascii
import hmac
import json
import math
import re
from base64 import urlsafe_b64decode
from typing import Any, NamedTuple, NoReturn

import orjson

MAX_CHARACTERS = 16 * 1024
"""Characters of a token."""

_END_OF_TIME = 2**40

_HMAC = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_FORM = re.compile(r"([A-Za-z0-9_-]+)={0,2}\.([A-Za-z0-9_-]*)={0,2}\.([A-Za-z0-9_-]*)={0,2}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{1,400}([eE][+-]?[0-9]{1,3})?)?", re.ASCII)


class BadToken(Exception):
    """Says what is wrong with a token."""


class Jwt(NamedTuple):
    """A token that was parsed but not verified. signed: the bytes that were signed. payload: the claims."""

    algorithm: str
    kid: str | None
    signed: bytes
    payload: bytes
    signature: bytes


class Claims(NamedTuple):
    """sub: whatever it is; None if it is missing. exp: seconds since the epoch; None if it is missing.

    EMQX refuses an `exp` that is a float, the pull does not mind.
    """

    sub: Any
    exp: int | float | None


def read(token: str) -> Jwt:
    """Raises BadToken."""
    if len(token) > MAX_CHARACTERS:
        raise BadToken(f"the token is longer than {MAX_CHARACTERS} characters")
    parts = _FORM.fullmatch(token)
    if parts is None:
        raise BadToken("the token is not a JWT")
    try:
        head, payload, signature = map(_decoded, parts.groups())
        header = orjson.loads(head)
    except (binascii.Error, orjson.JSONDecodeError):
        raise BadToken("the token is not a JWT") from None
    algorithm = header.get("alg") if isinstance(header, dict) else None
    if not isinstance(algorithm, str):
        raise BadToken("the token's header names no algorithm")
    kid = header.get("kid")
    # The standard's form of the parts: EMQX accepts padding that was appended to them.
    signed = ".".join(parts.groups()[:2]).encode()
    return Jwt(algorithm, kid if isinstance(kid, str) else None, signed, payload, signature)


def signed_with(secret: bytes, token: Jwt) -> bool:
    """Returns whether the secret signed it, by any of the HMAC algorithms."""
    digest = _HMAC.get(token.algorithm)
    return digest is not None and hmac.compare_digest(hmac.digest(secret, token.signed, digest), token.signature)


def is_hmac(token: Jwt) -> bool:
    return token.algorithm in _HMAC


def claims(token: Jwt, now: float) -> Claims:
    """Returns what a verified token says. now: seconds since the epoch.

    Raises BadToken, too, where it is not valid now.
    """
    try:
        given = json.loads(token.payload, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadToken("the token's claims are not JSON") from None
    if not isinstance(given, dict):
        raise BadToken("the token's claims are not a JSON object")
    expires, begins = _moment(given, "exp"), _moment(given, "nbf")
    if expires is not None and expires <= int(now):
        raise BadToken("the token has expired")
    if begins is not None and begins > int(now):
        raise BadToken("the token is not valid yet")
    return Claims(given.get("sub"), None if expires is None else min(expires, _END_OF_TIME))


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _moment(given: dict[str, Any], name: str) -> int | float | None:
    """Returns a claim in seconds, which EMQX takes as a number or as a string that holds one."""
    if name not in given:
        return None
    value = given[name]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value) if "." in value else int(value)
    if type(value) not in (int, float) or value in (math.inf, -math.inf):
        raise BadToken(f"`{name}` is not a number")
    moment: int | float = value
    return moment
