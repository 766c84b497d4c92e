"""What operators and the broker need of the store: dead letters, permission changes to carry out, health."""
