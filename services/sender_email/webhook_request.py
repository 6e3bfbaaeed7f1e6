"""What both kinds of requests from outside have in common: bounded bodies, and refusals."""

from aiohttp import web


class Refused(Exception):
    """Answer with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def read_body(request: web.BaseRequest, bytes_max: int) -> bytes:
    """The body as it came. Raises Refused (413) as soon as it is known to be longer."""
    if (request.content_length or 0) > bytes_max:
        raise Refused(413)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            raise Refused(413)
    return bytes(body)
