"""Limits and keepalive of every channel and server.

Source: measured. Without `grpc.http2.ping_timeout_ms` a hung peer is noticed after 60 s, whatever
the keepalive time-out; without the metadata limits a long error is dropped instead of delivered.
"""

#: Largest message in either direction.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
#: Largest metadata in either direction; the details of an error travel in it.
METADATA_BYTES_MAX = 16 * 1024
#: Silence after which a peer is pinged.
KEEPALIVE_MILLISECONDS = 10_000
#: An unanswered ping ends the connection after this time.
PING_TIMEOUT_MILLISECONDS = 5_000

Options = list[tuple[str, int]]

_BOTH: Options = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MILLISECONDS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MILLISECONDS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


def server_options() -> Options:
    """Arguments of a server."""
    return [
        *_BOTH,
        # A second process on the same port has to fail, not to share it.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", 1_000),
        # Clients ping every KEEPALIVE_MILLISECONDS; the default allows one every five minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MILLISECONDS // 2),
    ]


def channel_options() -> Options:
    """Arguments of a client channel. Retries are where a policy is written, not inside gRPC."""
    return [
        *_BOTH,
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        # What was down for long is found within a second or two of being back: sending waits for that.
        ("grpc.initial_reconnect_backoff_ms", 200),
        # The time that a connection may take, whatever its name; what refuses one is tried again sooner.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
