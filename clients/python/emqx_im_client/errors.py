"""What a device can be refused. Whatever may pass by itself is tried again instead, a refused login too."""


class DeviceError(Exception):
    """The device cannot go on, or its message was not accepted."""


class Unauthorized(DeviceError):
    """The token is another user's, or nobody's who is a user."""


class PullRefused(DeviceError):
    """The service says that what is asked of it is wrong: the saved place is not one."""


class StateInUse(DeviceError):
    """Another process has this state file open."""


class StateDamaged(DeviceError):
    """The state file does not hold what a device wrote."""


class Refused(DeviceError):
    """The service refused a message (`im.error`). code: as in the table of error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Unanswered(DeviceError):
    """Neither acknowledged nor refused in time: sending it again later could store it twice."""
