"""What clients and operators ask over HTTP."""
