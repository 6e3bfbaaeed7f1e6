"""The campaign service: lifecycle, contacts, claims, status, watch."""
