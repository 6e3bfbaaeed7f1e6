"""What happens around every call, one concern a file. The order is in `outreach.rpc.server`."""
