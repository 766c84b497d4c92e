"""How a connection fails that was lost before its driver noticed: uvloop raises RuntimeError then, not OSError."""

_SAYINGS = (
    # uvloop, when anything is written.
    "the handler is closed",
    # asyncmy, when it wants to set options of the socket.
    "Transport does not expose socket instance",
)


def is_closed_transport(error: RuntimeError) -> bool:
    """Returns whether the error means that the other end closed the connection."""
    return any(saying in str(error) for saying in _SAYINGS)
