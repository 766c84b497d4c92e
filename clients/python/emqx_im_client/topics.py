"""What a topic is that one can publish to, or subscribe as it is."""


def is_topic(topic: object) -> bool:
    """Says whether it is one: MQTT's bounds, and no wildcards."""
    return isinstance(topic, str) and 0 < len(topic.encode()) <= 0xFFFF and not any(sign in topic for sign in "+#\0")
