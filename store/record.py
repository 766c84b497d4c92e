"""A stored message as bytes: what lies in timelines, in the outbox and, field by field, in the archive.

`<mid>\\n<topic>\\n<sender>\\n<client id>\\n<ts>\\n<form>\\n<payload>`; the script that gives the id puts it in front
of the rest. The payload is the bytes as they were published: `form` says whether they are JSON (`j`) or not (`b`). If
a message was edited, `form` is `e<id of the newest edit>`, and the payload is JSON; if it was recalled, `form` is
`r<id of the recall>:<who recalled it>`, and there is no payload.
"""

from typing import NamedTuple

JSON_FORM = b"j"
OPAQUE_FORM = b"b"
_EDITED = b"e"
_RECALLED = b"r"

SERVICE = "0"
"""The sender of everything the service or EMQX's REST API published."""


class Message(NamedTuple):
    """One message, for all its receivers.

    mid: microseconds, its id. ts: milliseconds, when EMQX received it. client_id: the payload's `id`, or EMQX's
    message id in its stead. replaced: id of the newest edit, or of the recall; 0 for a message as it was sent.
    recalled_by: who recalled it, "" if nobody did; then there is no payload.
    """

    mid: int
    topic: str
    sender: str
    client_id: str
    ts: int
    json: bool
    payload: bytes
    replaced: int = 0
    recalled_by: str = ""

    def changed_to(self, changed: "Message") -> "Message":
        """Returns which of two counts, this or what an edit or a recall made of it: the newest edit, and above all a
        recall.
        """
        if self.recalled_by or not (changed.recalled_by or changed.replaced > self.replaced):
            return self
        return changed


class Shared(Message):
    """A message that many answers hold. rendered: as they give it, once the first of them has made that."""

    rendered: bytes = b""


def encode_tail(topic: str, sender: str, client_id: str, ts: int, json: bool, payload: bytes) -> bytes:
    """Returns the record without its id. Raises ValueError if a field holds the separator."""
    header = f"{topic}\n{sender}\n{client_id}\n{ts}\n".encode()
    if header.count(b"\n") != 4:
        raise ValueError("a line break in topic, sender or id")
    return header + (b"j\n" if json else b"b\n") + payload


def encode(message: Message) -> bytes:
    mid, topic, sender, client_id, ts, json, payload, replaced, _ = message
    record = b"%d\n%b" % (mid, encode_tail(topic, sender, client_id, ts, json, payload))
    if not replaced:
        return record
    *fields, _, payload = record.split(b"\n", 6)
    return b"\n".join([*fields, _replaced_form(message), payload])


def decode(record: bytes) -> Message:
    mid, topic, sender, client_id, ts, form, payload = record.split(b"\n", 6)
    if len(form) > 1:
        replaced, _, by = form[1:].partition(b":")
        json = form[:1] == _EDITED
        return Message(
            *(int(mid), topic.decode(), sender.decode(), client_id.decode(), int(ts), json, payload),
            replaced=int(replaced),
            recalled_by=by.decode(),
        )
    return Message(int(mid), topic.decode(), sender.decode(), client_id.decode(), int(ts), form == JSON_FORM, payload)


def _replaced_form(message: Message) -> bytes:
    if message.recalled_by:
        return b"%b%d:%b" % (_RECALLED, message.replaced, message.recalled_by.encode())
    return b"%b%d" % (_EDITED, message.replaced)
