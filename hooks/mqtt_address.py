"""Where `--mqtt` leads."""

import ssl
import sys
from typing import NamedTuple
from urllib.parse import urlsplit


class MqttAddress(NamedTuple):
    """With `tls` over TLS."""

    host: str
    port: int = 1883
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def mqtt_address(address: str) -> MqttAddress:
    """Reads `HOST:PORT`, `mqtt://HOST:PORT` or `mqtts://HOST:PORT`; ends the program if it is none of them."""
    try:
        parts = urlsplit(address if "://" in address else f"mqtt://{address}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        sys.exit(f"emqx-im: --mqtt: {address!r} is not HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT")
    if parts.scheme == "mqtts":
        return MqttAddress(parts.hostname, port or 8883, ssl.create_default_context())
    return MqttAddress(parts.hostname, port or 1883)
