"""All that is used of aiomqtt beyond its documentation. pyproject.toml therefore keeps aiomqtt's minor version."""

import asyncio

import aiomqtt
from paho.mqtt.client import Client as PahoClient


def paho_of(client: aiomqtt.Client) -> PahoClient:
    """Returns the client of paho under one of aiomqtt."""
    return client._client


def disconnected(client: aiomqtt.Client) -> asyncio.Future[None]:
    """Returns what is done once the connection has ended, with its reason."""
    return client._disconnected
