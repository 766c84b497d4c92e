"""The parts that `emqx-im dev` runs beside the service: a broker that behaves like EMQX, its REST API, and Valkey.

The broker speaks to the service only as EMQX does: the rules' HTTP bodies, the authorizer's questions,
the REST API.
"""


class EmbeddedError(Exception):
    """The embedded stack cannot start or go on; the message is one line for the operator."""
