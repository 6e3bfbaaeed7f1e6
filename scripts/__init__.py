"""Tools for people who work on Outreach; nothing here runs in production."""
