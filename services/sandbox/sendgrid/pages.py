"""Sent emails as a person sees them: a list, and a page for each recipient.

Everything in an email is foreign: it is escaped in the page itself, and its HTML runs nothing, as
it stands in a sandboxed frame under a content security policy without scripts.
"""

from collections.abc import Mapping
from html import escape
from urllib.parse import quote

from services.sandbox.http import Answer
from services.sandbox.sendgrid.rendering import Attachment, RenderedEmail

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: http: https:; font-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"{_POLICY}; frame-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd;
overflow-wrap:anywhere}th{white-space:nowrap;font-weight:600}
iframe{width:100%;height:60rem;border:1px solid #bbb;background:#fff}
pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #bbb;padding:1rem}
"""


def list_page(emails: list[tuple[str, str, str, str]]) -> Answer:
    """The last emails: id, recipient, subject and status of each, newest first."""
    rows = "".join(
        f'<tr><td><a href="/sandbox/emails/{_path(sg_message_id)}">{escape(email)}</a></td>'
        f"<td>{escape(subject)}</td><td>{escape(status)}</td></tr>"
        for sg_message_id, email, subject, status in emails
    )
    table = f"<table><tr><th>To</th><th>Subject</th><th>Status</th></tr>{rows}</table>"
    return _page("Sent emails", f"<h1>Sent emails</h1>{table if emails else '<p>None yet.</p>'}")


def email_page(sg_message_id: str, status: str, email: RenderedEmail) -> Answer:
    """One recipient's email: headers, HTML in a frame, text part, attachments, arguments."""
    path = f"/sandbox/emails/{_path(sg_message_id)}"
    size = f"{len(email.html.encode()):,}"
    parts = [
        f'<p><a href="/sandbox/emails">All emails</a></p><h1>{escape(email.subject)}</h1>',
        _table([*email.headers, ("Status", status), ("sg_message_id", sg_message_id)]),
        "<h2>HTML part</h2>",
        f'<p>{size} bytes, <a href="{path}.html">alone</a></p>'
        f'<iframe sandbox="" title="HTML part" srcdoc="{escape(email.html)}"></iframe>'
        if email.html
        else "<p>None.</p>",
        "<h2>Text part</h2>",
        f"<pre>{escape(email.text)}</pre>" if email.text else "<p>None.</p>",
        "<h2>Attachments</h2>",
        _attachments(path, email.attachments),
        "<h2>Custom arguments and categories</h2>",
        _table([*email.custom_args.items(), ("categories", ", ".join(email.categories))]),
    ]
    return _page(email.subject, "".join(parts))


def html_part(email: RenderedEmail) -> Answer:
    """The HTML part alone; nothing in it runs."""
    headers = {**_HEADERS, "Content-Security-Policy": f"sandbox; {_POLICY}"}
    return Answer(200, email.html.encode("utf-8", "replace"), headers)


def _page(title: str, body: str) -> Answer:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>"
    )
    return Answer(200, text.encode("utf-8", "replace"), _HEADERS)


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows
    )
    return f"<table>{cells}</table>"


def _attachments(path: str, attachments: list[Attachment]) -> str:
    if not attachments:
        return "<p>None.</p>"
    rows = "".join(
        f'<tr><td><a href="{path}/attachments/{at}">{escape(one.filename)}</a></td>'
        f"<td>{escape(one.type)}</td><td>{one.size_bytes:,} bytes</td>"
        f"<td>{escape(one.disposition)}</td></tr>"
        for at, one in enumerate(attachments)
    )
    return f"<table>{rows}</table>"


def _path(sg_message_id: str) -> str:
    return quote(sg_message_id, safe="")
