"""The SMS sender: Twilio behind `outreach.sending`, and the endpoint of Twilio's webhooks."""
