"""A run: claims, reports, dispatch and timers. Every writer locks the campaign's row first, so a campaign's changes
form one line, its counts are exact, and no two writers can deadlock.
"""
