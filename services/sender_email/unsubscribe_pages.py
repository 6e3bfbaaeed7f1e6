"""What a person sees behind an unsubscribe link: small pages, without scripts, and with nothing from elsewhere."""

import hashlib
from base64 import b64encode
from typing import Final

from aiohttp import web

_STYLE: Final = """\
:root{color-scheme:light dark}
body{margin:0;font:1.125rem/1.5 system-ui,sans-serif;background:#f4f5f7;color:#1c1f23}
main{max-width:30rem;margin:15vh auto 0;padding:2rem 1.5rem}
h1{font-size:1.5rem;margin:0 0 1rem}
button{font:inherit;font-weight:600;padding:.75rem 1.5rem;border:0;border-radius:.5rem;\
background:#0b57d0;color:#fff;cursor:pointer}
button:focus-visible{outline:3px solid #f9ab00;outline-offset:3px}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#e8eaed}}
"""
_STYLE_HASH: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_HEADERS: Final = {
    # 'self' for the form: a redirect of it to elsewhere is not followed either
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


def _page(title: str, text: str, *, role: str = "", more: str = "") -> bytes:
    said = f' role="{role}"' if role else ""
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="robots" content="noindex,nofollow">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{title}</h1><p{said}>{text}</p>{more}</main></body></html>\n"
    ).encode()


_ASK: Final = _page(
    "Unsubscribe",
    "You will get no more of these emails once you have confirmed.",
    # without an action: posted to the page's own address; the field is the one of RFC 8058
    more=(
        '<form method="post"><button type="submit" name="List-Unsubscribe" value="One-Click">'
        "Unsubscribe</button></form>"
    ),
)
_DONE: Final = _page(
    "You are unsubscribed",
    "You will get no more of these emails. Some that are already on their way may still arrive.",
    role="status",
)
_UNKNOWN: Final = _page(
    "This link does not work",
    "It may have been cut off or changed. Please use the link in the email again, or answer the email.",
    role="alert",
)
_LATER: Final = _page(
    "Please try again",
    "You could not be unsubscribed just now, by a fault of ours. Please try again in a few minutes.",
    role="alert",
)


def asking() -> web.Response:
    """The page with the one button."""
    return _response(200, _ASK)


def done() -> web.Response:
    """The answer to an unsubscribe that is stored, for people and mail providers."""
    return _response(200, _DONE)


def unknown() -> web.Response:
    """The link is none of ours."""
    return _response(404, _UNKNOWN)


def later() -> web.Response:
    """It could not be stored."""
    return _response(503, _LATER, {"Retry-After": "60"})


def _response(status: int, page: bytes, more: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=page,
        content_type="text/html",
        charset="utf-8",
        headers={**_HEADERS, **(more or {})},
    )
