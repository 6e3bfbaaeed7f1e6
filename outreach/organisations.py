"""Organisations that settings name: their ids follow from their names."""

from uuid import UUID, uuid5

# Fixed for ever: ids made from names depend on it.
_NAMESPACE = UUID("6f757472-6561-4368-8000-6f7267616e69")


def organisation_id(name: str) -> UUID:
    """The id of the organisation that a deployment sets up at start (BOOTSTRAP_ORGANISATION_NAME).

    Derived, so that every process that knows the name knows the id, before the database does.
    """
    return uuid5(_NAMESPACE, name)
