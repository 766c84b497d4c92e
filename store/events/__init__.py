"""Events for an operator's back end: scripts put them into queues in Redis, from which they are delivered."""
