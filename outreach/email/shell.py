"""The document around an email's body."""

import html

from outreach.email.markup import Tag, write_token

_BODY_STYLE = (
    "margin:0;padding:0;width:100%;-webkit-text-size-adjust:100%;-ms-text-size-adjust:100%"
)
_HIDDEN = (
    "display:none;font-size:1px;line-height:1px;max-height:0;max-width:0;opacity:0;overflow:hidden;"
    "mso-hide:all"
)
# Otherwise a mail program goes on with the first words of the body in its list of messages.
_FILLER = "&#847;&zwnj;&nbsp;" * 40
_OFFICE = (
    "<!--[if mso]><xml><o:OfficeDocumentSettings><o:AllowPNG />"
    "<o:PixelsPerInch>96</o:PixelsPerInch></o:OfficeDocumentSettings></xml><![endif]-->"
)


def wrap(
    body: str,
    *,
    language: str,
    title: str,
    preheader: str,
    styles: str,
    conditionals: str,
    body_attributes: tuple[tuple[str, str], ...],
) -> str:
    """The whole document. `title`, `preheader` and `body` are HTML, `styles` is cleaned CSS,
    `conditionals` sanitised comments of the source's head.
    """
    attributes = dict(body_attributes)
    attributes["style"] = ";".join(filter(None, (_BODY_STYLE, attributes.get("style"))))
    attributes.pop("lang", None)
    hidden = ""
    if preheader:
        hidden = f'<div style="{_HIDDEN}" aria-hidden="true">{preheader}{_FILLER}</div>\n'
    return (
        "<!doctype html>\n"
        f'<html lang="{html.escape(language)}" xmlns:v="urn:schemas-microsoft-com:vml" '
        'xmlns:o="urn:schemas-microsoft-com:office:office">\n<head>\n'
        '<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Type" content="text/html; charset=utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="x-apple-disable-message-reformatting">\n'
        f"<title>{title}</title>\n{_OFFICE}{conditionals}\n"
        + (f"<style>\n{styles}\n</style>\n" if styles else "")
        + f"</head>\n{write_token(Tag('body', tuple(attributes.items())))}\n{hidden}{body}\n"
        "</body>\n</html>\n"
    )
