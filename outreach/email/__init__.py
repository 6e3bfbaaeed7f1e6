"""What an email is made of, compiled once a template: HTML, MJML or blocks into robust HTML, a
plain-text part, and substitution tags where each recipient's values go. Pure: no IO, no clock.
"""
