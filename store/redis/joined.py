"""Reads what scripts join: items behind one line of their lengths."""

from itertools import accumulate, pairwise


def split(data: bytes) -> list[bytes]:
    """Returns the items. Raises ValueError if they are not what the lengths say."""
    lengths, _, rest = data.partition(b"\n")
    ends = [0, *accumulate(map(int, lengths.split(b" ")))]
    if ends[-1] != len(rest) or sorted(ends) != ends:
        raise ValueError("the items are not as long as their lengths say")
    return [rest[start:end] for start, end in pairwise(ends)]
