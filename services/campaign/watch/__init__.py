"""Live status: the change log read once per watched campaign and told to any number of watchers."""
