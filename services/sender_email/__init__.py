"""The email sender: SendGrid behind `outreach.sending`."""
