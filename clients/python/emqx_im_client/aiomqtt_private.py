"""Holds everything that is used of aiomqtt beyond its documentation; so pyproject.toml pins aiomqtt's minor
version."""

import asyncio
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as PahoClient


def paho_of(client: aiomqtt.Client) -> PahoClient:
    """Returns the client of paho under one of aiomqtt."""
    return client._client


def disconnected(client: aiomqtt.Client) -> asyncio.Future[None]:
    """Returns what is done once the connection has ended, with its reason."""
    return client._disconnected


def notice_early_ends(client: aiomqtt.Client) -> None:
    """Lets a client that connects fail at once where the broker hangs up without an answer. aiomqtt would wait on."""
    loop = asyncio.get_running_loop()

    def ended(details: tuple[Any, ...]) -> None:
        if client._connected.done():
            client._on_disconnect(*details)
        else:
            client._connected.set_exception(aiomqtt.MqttError("the connection ended without an answer"))

    def on_disconnect(*details: Any) -> None:
        # paho calls it in the thread that connects, too.
        loop.call_soon_threadsafe(ended, details)

    paho_of(client).on_disconnect = on_disconnect
