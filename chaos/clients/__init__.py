"""What clients do in a run: make campaigns, run, stop and retry them, opt out, forge webhooks."""
