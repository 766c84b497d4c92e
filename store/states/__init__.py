"""States, which users keep beside messages: read marks, settings, blocks."""
