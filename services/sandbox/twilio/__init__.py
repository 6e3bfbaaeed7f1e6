"""Twilio's Messages API, its status callbacks and its inbound messages, as a double."""
