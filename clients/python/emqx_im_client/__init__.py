"""The reference client of emqx-im: MQTT for what is live, the pull for what is true, nothing lost between.

    broker, state = Broker("127.0.0.1", 1883), FileState(Path("1001.json"))
    async with Device(1001, token, broker, "http://127.0.0.1:8080", state) as device:
        mid = await device.send("single/1002", {"text": "hi"})
        async for event in device: ...

Every event comes once: `Received` (a live message is a claim until a pull confirms it), `Truncated`, and
`Settled` for messages that an earlier run of the program left unanswered. Asking for the next event says that
the one before is dealt with; what was not is given again after a restart. `Trouble`, `LoginRefused` and `Recovered`
say how the device gets on: it goes on trying, and ends only where that is of no use.
"""

from emqx_im_client.client import Device
from emqx_im_client.commands import Group
from emqx_im_client.errors import DeviceError, PullRefused, Refused, StateDamaged, StateInUse, Unanswered, Unauthorized
from emqx_im_client.events import (
    Edited,
    Event,
    LoginRefused,
    Message,
    Recalled,
    Received,
    Recovered,
    Settled,
    StateChanged,
    Trouble,
    Truncated,
)
from emqx_im_client.link import Broker
from emqx_im_client.state import FileState, MemoryState, State

__all__ = [
    "Broker",
    "Device",
    "DeviceError",
    "Edited",
    "Event",
    "FileState",
    "Group",
    "LoginRefused",
    "MemoryState",
    "Message",
    "PullRefused",
    "Recalled",
    "Received",
    "Recovered",
    "Refused",
    "Settled",
    "State",
    "StateChanged",
    "StateDamaged",
    "StateInUse",
    "Trouble",
    "Truncated",
    "Unanswered",
    "Unauthorized",
]
