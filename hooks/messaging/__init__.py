"""Everything that the service decides and sends: commands, subscriptions, notices, permissions for the broker."""
