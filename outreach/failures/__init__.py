"""Why messages fail: what the providers' codes mean, and what people are told of each reason."""
