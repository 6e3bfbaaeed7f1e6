"""The services: one process each; none imports another."""
