"""How the service is put together, started and stopped."""
