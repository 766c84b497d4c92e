"""What the service decides and tells: commands, subscriptions, notices, permissions brought to the broker."""
