"""Tags as operators and users of a running service meet them."""

from typing import Any
from uuid import uuid4

from tests.integration.app import App


async def make(app: App, *, title: str = "", followable: bool = False) -> str:
    """Returns the name of a new tag."""
    tag = f"t{uuid4().hex}"
    answer = await app.admin("PUT", f"/tags/{tag}", json={"title": title, "followable": followable})
    assert (answer.status, answer.raw) == (204, b"")
    return tag


async def change(app: App, tag: str, **fields: Any) -> dict[str, int]:
    answer = await app.admin("POST", f"/tags/{tag}/users", json=fields)
    assert answer.status == 200, answer.raw
    counts: dict[str, int] = answer.json
    return counts


async def shown(app: App, tag: str) -> Any:
    return (await app.admin("GET", f"/tags/{tag}")).json


async def tell(app: App, tag: str, client_id: str) -> int:
    """Sends a message to the tag's holders: its `mid`."""
    message = {"topic": f"business/tag_{tag}", "qos": 1, "id": client_id, "type": "offer", "body": 1}
    answer = await app.admin("POST", "/publish", json=message)
    assert answer.status == 200, answer.raw
    mid: int = answer.json["mid"]
    return mid


async def told(app: App, uid: str, tag: str) -> list[str]:
    """Returns the ids of the tag's messages that the user pulls."""
    found, last_id, more = [], 0, True
    while more:
        page = (await app.pull(uid, last_id, limit=1000)).json
        found += [each["id"] for each in page["messages"] if each["topic"] == f"business/tag_{tag}"]
        last_id, more = page["last_id"], page["more"]
    return found
