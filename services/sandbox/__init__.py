"""A double of the providers for demos, tests and benchmarks.

It speaks the providers' wire formats on loopback, misbehaves as its knobs say, and keeps a ledger
of everything it accepted: the oracle that the rest of the system is checked against. Each provider
is a room of its own: `services.sandbox.twilio`, `services.sandbox.sendgrid`.
"""
