"""The `outreach` command: campaigns from a terminal or a script, and the stack on one machine."""
