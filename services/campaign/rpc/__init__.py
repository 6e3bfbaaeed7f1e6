"""The public services: requests read and checked, use cases called, records written as answers."""
