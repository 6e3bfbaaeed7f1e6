"""What the senders of all channels share: claims, pacing, reports, journal, webhook inbox.

The rules behind it are in docs/architecture.md: claim before send, never send twice what may have
gone out, a report is done when its commit is acknowledged. No provider is named in here.
"""
