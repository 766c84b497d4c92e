"""EMQX's REST API."""

from hooks.dev.rest.server import application

__all__ = ["application"]
