"""Events to an operator's back end: how they look, and how they are delivered."""
