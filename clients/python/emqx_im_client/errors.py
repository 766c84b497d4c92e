"""Errors that a device raises. Temporary failures, also a refused login, are tried again instead."""


class DeviceError(Exception):
    """The device cannot go on, or its message was not accepted."""


class Unauthorized(DeviceError):
    """The token belongs to another user, or to no user."""


class PullRefused(DeviceError):
    """The service says that the request is wrong: the saved place is invalid."""


class StateInUse(DeviceError):
    """Another process has this state file open."""


class StateDamaged(DeviceError):
    """The state file does not contain what a device wrote."""


class Refused(DeviceError):
    """The service refused a message (`im.error`). code: as in the table of error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Unanswered(DeviceError):
    """Neither acknowledged nor refused in time: sending it again later could store it twice."""
