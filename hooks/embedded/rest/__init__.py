"""EMQX's REST API."""

from hooks.embedded.rest.server import application

__all__ = ["application"]
