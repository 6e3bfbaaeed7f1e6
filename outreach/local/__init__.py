"""The stack on one machine: embedded PostgreSQL and NATS, and the processes around them."""
