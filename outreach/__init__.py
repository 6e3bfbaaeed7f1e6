"""Outreach: bulk SMS and email campaigns that know what became of each message. What services share."""

import os

# No process of ours forks without exec; with gRPC's fork handlers on, every start of a child process prints a warning.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# gRPC's own remarks are plain text among our lines of JSON, and say nothing that ours do not.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
