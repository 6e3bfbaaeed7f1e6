"""gRPC as every service and client here uses it: factories with limits, errors, interceptors."""
