"""SendGrid: mail/send, the event webhook, suppressions and look-ups, as far as a sender uses them."""
