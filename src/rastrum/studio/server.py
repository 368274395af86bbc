"""The web side: one page of static files and one WebSocket, which hands each message to a session.

    browser ─▶ Guard (Host, Origin, token) ─▶ / and static files, which may load nothing from elsewhere
                                            ─▶ /session ─▶ Session, one per open page, at most MOST at a time

On a loopback address Host must name it, so that no foreign page reaches the studio by a name that it points there. On any other address a
token is needed: in the address at first, then in a cookie. A WebSocket's Origin must be the page's own.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs

from .models import Models
from .requests import Answer
from .session import LONGEST, Session

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.staticfiles import StaticFiles
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError:
    raise ImportError("studio: needs the extra studio: pip install 'rastrum[studio]'") from None

STATIC = Path(__file__).with_name("static")
COOKIE = "rastrum-studio"
MOST = 16                      # open pages
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-cache",
}


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only. host: a name or an address, without brackets."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets through what a browser on the studio's own page asks, and adds ``HEADERS`` to every answer.

    app: the application behind.
    token: what a visitor must know; "" for nothing, on a loopback address.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS.items()]
            await send(message)

        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self.refusal(scope, headers)
        if refusal is None and scope["type"] == "http" and self._has_token_in_address(scope):
            answer = RedirectResponse("/")                                # the token leaves the address, where others might read it
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            await answer(scope, receive, add_headers)
        elif refusal is None:
            await self.app(scope, receive, add_headers)
        elif scope["type"] == "http":
            await PlainTextResponse(refusal, 403)(scope, receive, add_headers)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})

    def refusal(self, scope: Scope, headers: dict[bytes, str]) -> str | None:
        """Why a request is refused; None for one that is let through.

        scope: of the request.
        headers: by their names in small letters.
        """
        host = headers.get(b"host", "")
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if not self.token and not is_loopback(name):
            return f"Host: {host!r} is not this machine; open the address that rastrum studio printed"
        origin = headers.get(b"origin")
        if origin is None and scope["type"] == "websocket":
            return "Origin: a WebSocket must come from the studio's page"
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return f"Origin: {origin!r} is not the studio's page"
        if self.token and not (self._has_token_in_address(scope) or self._is_token(_cookie(headers.get(b"cookie", "")))):
            return "Token: open the address that rastrum studio printed, which holds it"
        return None

    def _has_token_in_address(self, scope: Scope) -> bool:
        found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        return scope["type"] == "http" and bool(self.token) and self._is_token(found)

    def _is_token(self, found: str) -> bool:
        return hmac.compare_digest(found.encode(), self.token.encode())


def _cookie(text: str) -> str:
    with suppress(CookieError):
        cookies = SimpleCookie(text)
        return cookies[COOKIE].value if COOKIE in cookies else ""
    return ""


def application(models: Models, token: str = "") -> Guard:
    """The web application.

    models: that it shows.
    token: what a visitor must know; "" (default) for nothing, on a loopback address.
    """
    pages = 0

    async def index(request: object) -> FileResponse:
        return FileResponse(STATIC / "index.html")

    async def session(page: WebSocket) -> None:
        nonlocal pages
        if pages >= MOST:
            await page.close(1013, f"{MOST} pages are open, which is the most; close one of them")
            return
        pages += 1
        try:
            await _converse(page, models)
        finally:
            pages -= 1

    routes = [Route("/", index), WebSocketRoute("/session", session), Mount("/static", StaticFiles(directory=STATIC))]
    return Guard(Starlette(routes=routes), token)


async def _converse(page: WebSocket, models: Models) -> None:
    """Passes messages between a page and its session until one of them closes."""
    await page.accept()
    loop, one_at_a_time = asyncio.get_running_loop(), asyncio.Lock()

    async def send(text: str) -> None:
        async with one_at_a_time:
            await page.send_text(text)

    def send_from_thread(answer: Answer) -> None:
        text = json.dumps(answer, allow_nan=False)
        try:
            asyncio.run_coroutine_threadsafe(send(text), loop).result()
        except Exception as error:                                        # each server has its own for a page that has gone
            raise OSError(f"studio: the page has gone ({error!r})") from error

    session = Session(models, send_from_thread)
    try:
        await send(json.dumps({"models": models.described, "runs": models.runs is not None}))
        while True:
            if (answer := session.receive(await page.receive_text())) is not None:
                await send(json.dumps(answer))
    except (WebSocketDisconnect, RuntimeError, KeyError):                 # KeyError: bytes in place of text
        pass
    finally:
        session.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for visitors.

    host: name or address.
    port: 0 for any that is free.

    Raises ``OSError`` where that is not possible.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OSError(f"studio: cannot listen on {host}, port {port} ({error.strerror}); choose another --port or --host") from None


def server(models: Models, token: str) -> uvicorn.Server:
    """The server, which ``run(sockets=[…])`` runs until it is interrupted.

    models: that it shows.
    token: as for ``application``.
    """
    settings = {"ws": "websockets-sansio", "ws_max_size": LONGEST, "ws_max_queue": 8, "access_log": False, "server_header": False}
    return uvicorn.Server(uvicorn.Config(application(models, token), log_level="warning", timeout_graceful_shutdown=1, **settings))
