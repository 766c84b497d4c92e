"""Ends commands that fail with one line, which names the setting of what failed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from store.errors import ArchiveAway, ArchiveRefused, ShardsDiffer, StoreError


@contextmanager
def named_by_setting() -> Iterator[None]:
    """Exits if the store or the archive raises something in this block."""
    try:
        yield
    except (ArchiveAway, ArchiveRefused) as error:
        sys.exit(f"emqx-im: IM_ARCHIVE_URL: {error}")
    except ShardsDiffer as error:
        sys.exit(f"emqx-im: IM_SHARDS: {error}")
    except StoreError as error:
        sys.exit(f"emqx-im: IM_REDIS_URL: {error}")
