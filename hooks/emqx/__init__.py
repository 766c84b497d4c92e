"""EMQX's REST API for the service and for operators."""
