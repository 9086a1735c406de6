# SPDX-License-Identifier: Apache-2.0
"""Any web app, not only Taipy's: FastAPI under uvicorn, as Chromium uses it through the gate."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import taipy_tunnel
from chain import processes
from chain.apps import served
from chain.browser import Browser, Page
from chain.proxy import Proxy
from chain.testing import link
from chain.visits import bearer

APP = """
import asyncio, hashlib, pathlib
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse
from pydantic import BaseModel

app = FastAPI()
kept = pathlib.Path("kept.bin")
released = asyncio.Event()

class Order(BaseModel):
    item: str
    count: int

@app.get("/", response_class=HTMLResponse)
def page():
    return "<!doctype html><title>shop</title><h1>Shop</h1>"

@app.get("/orders/{number}")
def order(number: int):
    return {"number": number, "item": "chair"}

@app.post("/orders", status_code=201)
def new_order(order: Order):
    return {"item": order.item, "count": order.count + 1}

@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        pass

@app.get("/events")
async def events():
    async def stream():
        yield "data: first\\n\\n"
        await released.wait()
        yield "data: last\\n\\n"
    return StreamingResponse(stream(), media_type="text/event-stream")

@app.post("/release")
async def release():
    released.set()

@app.post("/upload")
async def upload(request: Request):
    digest, size = hashlib.sha256(), 0
    with kept.open("wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}

@app.get("/download")
def download():
    return FileResponse(kept, media_type="application/octet-stream", filename="kept.bin")
"""

UPLOAD = 5 << 20  # bytes, as in the script below


@pytest.fixture
def shop(tmp_path: pathlib.Path) -> Iterator[str]:
    """A FastAPI app under uvicorn."""
    (tmp_path / "shop.py").write_text(APP)
    port = processes.free_port()
    argv = [sys.executable, "-m", "uvicorn", "shop:app", "--host", "127.0.0.1", "--port", str(port)]
    with served(tmp_path, port, argv) as address:
        yield address


@pytest.fixture
def tunnel(proxy: Proxy, shop: str) -> taipy_tunnel.Tunnel:
    """The app's, for those who have the link."""
    return taipy_tunnel.expose(shop, **link(proxy))


@pytest.fixture
def page(tunnel: taipy_tunnel.Tunnel) -> Iterator[Page]:
    """A visitor who has the link."""
    with Browser() as browser:
        page = browser.open(tunnel.url)
        page.wait_text("h1", "Shop")
        yield page


def test_json(page: Page) -> None:
    assert page.evaluate("fetch('/orders/7').then((a) => a.json())") == {"number": 7, "item": "chair"}
    post = """async () => {
        const headers = {"Content-Type": "application/json"};
        const answer = await fetch("/orders", {method: "POST", headers, body: JSON.stringify(%s)});
        return [answer.status, await answer.json()];
    }"""
    assert page.evaluate(post % '{item: "table", count: 2}') == [201, {"item": "table", "count": 3}]
    assert page.evaluate(post % '{item: "table"}')[0] == 422  # the app's own answer


def test_websocket(page: Page) -> None:
    echoed = page.evaluate("""() => new Promise((resolve, reject) => {
        const socket = new WebSocket(location.origin.replace("http", "ws") + "/echo");
        const sent = ["hello", "ü".repeat(300000), Uint8Array.from([0, 1, 254, 255])], got = [];
        socket.binaryType = "arraybuffer";
        socket.onopen = () => sent.forEach((message) => socket.send(message));
        socket.onerror = () => reject(new Error("the socket failed"));
        socket.onmessage = ({data}) => {
            got.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
            if (got.length === sent.length) socket.close(1000);
        };
        socket.onclose = ({code, wasClean}) => resolve([got, code, wasClean]);
    })""")
    assert echoed == [["hello", "ü" * 300_000, [0, 1, 254, 255]], 1000, True]


def test_events_arrive_before_the_end(page: Page) -> None:
    # The app sends the second event after it was asked to, and that is done after the first has arrived.
    heard = page.evaluate("""() => new Promise((resolve, reject) => {
        const source = new EventSource("/events"), heard = [];
        source.onerror = () => reject(new Error("heard " + heard));
        source.onmessage = ({data}) => {
            heard.push(data);
            if (data === "first") fetch("/release", {method: "POST"});
            else source.close(), resolve(heard);
        };
        setTimeout(() => reject(new Error("heard only " + heard)), 10000);
    })""")
    assert heard == ["first", "last"]


def test_upload_and_download(page: Page, tunnel: taipy_tunnel.Tunnel, proxy: Proxy, tmp_path: pathlib.Path) -> None:
    uploaded = page.evaluate("""async () => {
        const bytes = new Uint8Array(5 << 20);
        for (let i = 0; i < bytes.length; i += 65536) crypto.getRandomValues(bytes.subarray(i, i + 65536));
        const body = window.sent = new File([bytes], "data.bin");
        return (await fetch("/upload", {method: "POST", body})).json();
    }""")
    kept = (tmp_path / "kept.bin").read_bytes()
    assert uploaded == {"size": UPLOAD, "sha256": hashlib.sha256(kept).hexdigest()}
    same = page.evaluate("""async () => {
        const [got, sent] = await Promise.all([
            fetch("/download").then((answer) => answer.arrayBuffer()), window.sent.arrayBuffer()]);
        const [a, b] = [new Uint32Array(got), new Uint32Array(sent)];
        return a.length === b.length && a.every((word, i) => word === b[i]);
    }""")
    assert same is True
    part = page.evaluate("""async () => {
        const answer = await fetch("/download", {headers: {Range: "bytes=4000000-4000009"}});
        const bytes = [...new Uint8Array(await answer.arrayBuffer())];
        return [answer.status, answer.headers.get("Content-Range"), bytes];
    }""")
    assert part == [206, f"bytes 4000000-4000009/{UPLOAD}", list(kept[4_000_000:4_000_010])]
    # As a download that was broken off goes on: the rest, if it still is the same file.
    head, whole = ask(proxy, "/download", bearer(tunnel))
    assert (head["status"], whole) == (200, kept)
    for tag, status in ((head["etag"], 206), ('"another"', 200)):
        rest = {"Range": f"bytes={UPLOAD - 100}-", "If-Range": tag}
        head, got = ask(proxy, "/download", {**bearer(tunnel), **rest})
        assert head["status"] == status
        assert got == (kept[-100:] if status == 206 else kept)


def test_without_the_link(tunnel: taipy_tunnel.Tunnel, proxy: Proxy) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for path, headers in (("/orders/7", {}), ("/events", {}), ("/download", {}), ("/echo", upgrade)):
        assert ask(proxy, path, headers)[0]["status"] == 403
    head, said = ask(proxy, "/orders/7", bearer(tunnel))
    assert (head["status"], json.loads(said)) == (200, {"number": 7, "item": "chair"})


def ask(proxy: Proxy, path: str, headers: Mapping[str, str]) -> tuple[dict[str, Any], bytes]:
    """Status, head and body of an answer."""
    with contextlib.closing(http.client.HTTPConnection(proxy.url.split("/")[2], timeout=10)) as connection:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        head = {name.lower(): value for name, value in answer.getheaders()}
        return {**head, "status": answer.status}, answer.read()
