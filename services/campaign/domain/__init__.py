"""What a campaign is and what may happen to it. Imports nothing that does input or output."""
