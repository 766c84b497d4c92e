"""Recordings of a real EMQX 5.8.9: all columns of its events, the authorizer's questions, the REST answers.

`earlier/` has scripts as they were in the version before, whole.
"""

import base64
from pathlib import Path
from typing import Any

import orjson

DIRECTORY = Path(__file__).parent


def recorded(name: str) -> Any:
    """Returns the content of `<name>.json`."""
    return orjson.loads((DIRECTORY / f"{name}.json").read_bytes())


def recorded_events(name: str) -> list[dict[str, Any]]:
    """Returns the events of `<name>.json` as the rule engine holds them: bytes as payload, None for "undefined"."""
    events = []
    for body in recorded(name):
        columns = {key: None if value == "undefined" else value for key, value in body.items()}
        if "payload_b64" in columns:
            columns["payload"] = base64.b64decode(body["payload_b64"])
            del columns["payload_b64"]
        events.append({key: columns[key] for key in columns if key not in ("no_user", "no_peer", "metadata")})
    return events
