"""Topic names and filters, judged as EMQX judges them."""

MAX_LEVELS = 128
MAX_BYTES = 65_535


def matches(name: str, pattern: str) -> bool:
    """Returns whether `pattern` covers `name`.

    `name` may itself be a filter: EMQX compares a SUBSCRIBE's filter with an ACL rule level by level, `+`
    covering any one level and `#` all that follow, the level before it included.
    """
    levels, wanted = name.split("/"), pattern.split("/")
    if name.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, want in enumerate(wanted):
        if want == "#" and index == len(wanted) - 1:
            return True
        if index >= len(levels) or want not in ("+", levels[index]):
            return False
    return len(levels) == len(wanted)


def is_wildcard(pattern: str) -> bool:
    return any(level in ("+", "#") for level in pattern.split("/"))


def valid_name(name: str) -> bool:
    """Returns whether a message may be published to `name`."""
    return _fits(name) and not any(character in name for character in "+#\0")


def valid_filter(pattern: str) -> bool:
    """Returns whether a client may ask to subscribe to `pattern`."""
    levels = pattern.split("/")
    return (
        _fits(pattern)
        and "\0" not in pattern
        and all(level in ("+", "#") or not any(c in level for c in "+#") for level in levels)
        and "#" not in levels[:-1]
    )


def _fits(topic: str) -> bool:
    return 0 < len(topic.encode()) <= MAX_BYTES and topic.count("/") < MAX_LEVELS
