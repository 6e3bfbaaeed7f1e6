"""What callers can do: one verb a file, one transaction each, no network inside."""
