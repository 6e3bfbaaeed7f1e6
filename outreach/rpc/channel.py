"""Client channels, with keepalive and limits."""

import grpc.aio

from outreach.rpc.options import channel_options


def create_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port`, not encrypted (TLS ends before the services).

    Close it after use.
    """
    return grpc.aio.insecure_channel(address, options=channel_options())


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries an API key or the internal token with a call."""
    return (("authorization", f"Bearer {token}"),)
