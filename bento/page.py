"""The page at /ui, to talk with the model from a browser: page.html, which asks /v1 as any other client does."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

_PAGE = Path(__file__).with_name("page.html")
# It needs nothing from elsewhere, and nothing from elsewhere is to reach the microphone.
_HEADERS = {
    "content-security-policy": "default-src 'none'; connect-src 'self'; media-src blob:; img-src data:;"
    " style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "microphone=(self)",
    "x-content-type-options": "nosniff",
}


def page_route() -> Route:
    """The route of the page; a conversation lives in the page alone, so two of them cannot mix."""
    content = _PAGE.read_text(encoding="utf-8")

    async def page(_: Request) -> Response:
        return HTMLResponse(content, headers=_HEADERS)

    return Route("/{rest:path}", page, methods=["GET"])
