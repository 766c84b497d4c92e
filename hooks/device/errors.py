"""What a device can be refused. What may pass by itself (a broken connection, 503) is retried instead."""


class DeviceError(Exception):
    """The device cannot go on, or its message was not accepted."""


class Unauthorized(DeviceError):
    """The broker or the pull refuses the token, or the broker the device's own topic."""


class PullRefused(DeviceError):
    """The pull says that the question is wrong: the address is not the service's."""


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
    """Neither acknowledged nor refused for so long that sending it again could store it twice."""
