"""NATS: what streams and subjects exist, and the small messages on them. Never personal data."""
