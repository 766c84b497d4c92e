"""Checks topics for publishing and subscribing."""


def is_topic(topic: object) -> bool:
    """Returns whether it is a topic: within MQTT's limits, and without wildcards."""
    return isinstance(topic, str) and 0 < len(topic.encode()) <= 0xFFFF and not any(sign in topic for sign in "+#\0")
