"""The reference client's workload says what its programs were handed twice, and nothing else."""

from types import SimpleNamespace
from typing import Any, cast

from emqx_im_client import Message, Received
from tests.chaos.scene import Scene
from tests.chaos.workloads.reference import Reference


def handed(sender: str, content: str, topic: str = "single/2") -> Received:
    return Received(Message(topic, sender, None, 1, {"body": {"t": content}}), confirmed=True)


def workload() -> Reference:
    uids = iter("12")
    scene: Any = SimpleNamespace(new_uid=lambda: next(uids))
    return Reference(cast(Scene, scene))


def test_a_message_that_is_handed_twice_is_found() -> None:
    reference = workload()
    for _ in range(2):
        reference.hand(2, handed("1", "r2-1"))
    assert reference.twice(2) == ["r2-1"]


def test_what_operators_said_to_everybody_may_have_the_same_content() -> None:
    """A client that begins anew gets that of earlier rounds, too."""
    reference = workload()
    for _ in range(2):
        reference.hand(2, handed("ops", "37 ", "business/global"))
    assert reference.twice(2) == []
