"""The email sender: SendGrid's API and webhooks. What senders share is in `outreach.sending`."""
