"""Describes to operators the server, or the file, that holds the archive."""

from typing import NamedTuple


class ServerState(NamedTuple):
    """product: `mysql`, `mariadb` or `sqlite`. version: as the server writes it, "" of a file. clock: microseconds.
    missing: months ahead that have no partition.
    """

    product: str
    version: str
    clock: int
    missing: list[str]
