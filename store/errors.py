"""Errors of the store. `hooks.errors` maps each to an HTTP status in one place."""


class StoreError(Exception):
    """The store cannot do this now."""


class StoreAway(StoreError):
    """Redis does not answer, or answers with an error of its own."""


class RedisRefused(StoreAway):
    """Redis answers a command with an error. The message is its code, unless it is `ERR`, and its text."""


class ScriptUnknown(RedisRefused):
    """Redis does not have the script that it was asked to run."""


class NodeChanged(RedisRefused):
    """Another node of the Redis Cluster answers for the key, now or soon. Nothing was done."""

    @property
    def code(self) -> str:
        """Returns the word with which the reply begins, such as MOVED."""
        return str(self).partition(" ")[0]


class LeaseLost(StoreAway):
    """Another process has taken over the work of this one, which was silent for too long."""


class StoreEmpty(StoreError):
    """Redis has no epoch: it was started empty or wiped, and has not been rebuilt yet."""


class StoreBehind(StoreError):
    """Redis was restored to an older state, and has not been rebuilt yet."""


class LinkBroken(StoreBehind):
    """A shard lacks what has left its link: only the archive has it."""


class StoreUnknown(StoreError):
    """Redis has a store that another version of emqx-im wrote, in a layout that this version does not know."""


class ShardsDiffer(StoreUnknown):
    """The store has another number of shards than IM_SHARDS says."""


class StoreFull(StoreError):
    """Redis has no room left: nothing is written until it has."""


class OutboxFull(StoreError):
    """The outbox has reached IM_OUTBOX_LIMIT, because the archive has fallen behind."""


class Overloaded(StoreError):
    """The queue of requests that wait for Redis is full."""


class EntryFailed(StoreError):
    """One entry of a batch failed inside the script; the others are not affected."""


class UnknownVersion(StoreError):
    """Something in Redis was written by a version of emqx-im whose layout this one cannot read."""


class ArchiveAway(StoreError):
    """The archive (MySQL or SQLite) does not answer."""


class ArchiveRefused(StoreError):
    """The archive answers, and will never take these rows."""


class SenderOverBudget(Exception):
    """The sender has written as much as they may in a minute; nothing has changed. retry_after: seconds."""

    def __init__(self, retry_after: int, client_id: str = "") -> None:
        super().__init__(f"over the budget for {retry_after} s")
        self.retry_after = retry_after
        self.client_id = client_id


class AccountSpent(Exception):
    """Redis says that the sender has written as much as they may in that minute; nothing has changed."""


class UserBanned(Exception):
    """Operators have banned the user for a time; nothing has changed."""


class ChannelRefused(Exception):
    """The rules of a group, a tag or a user forbid this; nothing has changed. code: one word that says which rule.

    client_id: of the message, where it is known.
    """

    def __init__(self, code: str, client_id: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.client_id = client_id


CHANNEL_CODES = (
    "unknown_group",
    "gid_taken",
    "not_a_member",
    "not_the_owner",
    "group_limit",
    "user_limit",
    "groups_per_day",
    "not_known",
    "admin_limit",
    "muted",
    "not_open",
    "kicked",
    "bad_command",
    "unknown_tag",
    "not_followable",
    "unknown_message",
    "not_the_sender",
    "of_the_service",
    "too_late",
    "recalled",
    "aggregated",
    "blocked",
    "bad_mid",
    "setting_limit",
    "block_limit",
)
"""Codes of `ChannelRefused`."""
