"""Timelines, channels, presence and the archive. Knows Redis and SQL; knows no HTTP and no MQTT."""
