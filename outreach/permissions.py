"""Who may do what (product rules: "Who may do what"), as far as several services ask it."""

from outreach.vocabulary import Role

#: Campaigns, their contacts, attachments and messages, and watching them. Operations sees none of it.
CAMPAIGN_ROLES = frozenset({Role.ORG_ADMIN, Role.ADMIN, Role.CAMPAIGNER})
