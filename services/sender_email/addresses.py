"""A recipient's address as SendGrid is given it. Pure."""

from email_validator import EmailNotValidError, validate_email


def as_sent(recipient: str) -> str:
    """The address with its domain in ASCII (IDNA): contacts have it as people read it, and the
    documents promise nothing of others. A local part that is not ASCII has no such form.
    """
    if recipient.isascii():  # nearly all
        return recipient
    try:
        domain = validate_email(recipient, check_deliverability=False).ascii_domain
    except EmailNotValidError:
        return recipient  # SendGrid decides
    return f"{recipient.rpartition('@')[0]}@{domain}"
