"""Outreach: bulk SMS and email campaigns that know what became of each message. What services share."""
