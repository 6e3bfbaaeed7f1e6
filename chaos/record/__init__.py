"""Recorders: what clients are told, what the provider accepted, and what the database holds at the end."""
