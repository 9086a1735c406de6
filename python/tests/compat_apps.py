# SPDX-License-Identifier: Apache-2.0
"""Apps of other frameworks, as Chromium uses them through the gate: `./build.sh compat` runs this."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from subprocess import DEVNULL, PIPE
from typing import NamedTuple

import pytest
import taipy_tunnel
from chain import processes
from chain.apps import served
from chain.browser import Browser
from chain.compat import TAKEN, Row
from chain.proxy import Proxy
from chain.testing import arguments, eventually, link

STREAMLIT = """
import streamlit as st
st.title("Streamlit sells")
if st.button("Press"):
    st.write("pressed, by its websocket")
"""

GRADIO = """
import sys
import gradio as gr
with gr.Blocks() as demo:
    gr.Markdown("# Gradio sells")
    said = gr.Markdown("nothing yet", elem_id="said")
    gr.Button("Press", elem_id="press").click(lambda: "pressed, by its queue", None, said)
demo.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]))
"""

BOKEH = """
from bokeh.io import curdoc
from bokeh.models import Div
curdoc().add_root(Div(text="Bokeh sells"))
"""

DASH = """
import sys
from dash import Dash, Input, Output, callback, html
app = Dash()
app.layout = [html.H1("Dash sells"), html.Button("Press", id="press"), html.Div(id="said")]
@callback(Output("said", "children"), Input("press", "n_clicks"), prevent_initial_call=True)
def press(n):
    return "pressed, by a callback"
app.run(host="127.0.0.1", port=sys.argv[1])
"""

# As objects, in the process that has the tunnel; each prints its link, or shows it.
DASH_OBJECT = """
import threading
from dash import Dash, html
app = Dash()
app.layout = html.H1("Dash sells")
threading.Thread(target=app.run, kwargs={"port": PORT}, daemon=True).start()
tunnel = taipy_tunnel.expose(app, **KNOWN)
"""

GRADIO_OBJECT = """
import gradio as gr
with gr.Blocks() as demo:
    gr.Markdown("# Gradio sells")
demo.launch(server_port=PORT, prevent_thread_lock=True, quiet=True)
tunnel = taipy_tunnel.expose(demo, **KNOWN)
"""

STREAMLIT_OBJECT = """
import taipy_tunnel
import streamlit as st
st.title("Streamlit sells")
st.code(taipy_tunnel.expose(st, **KNOWN).url)
"""


class App(NamedTuple):
    """An app, how it is started, and what it shows before and after a click."""

    code: str
    argv: list[str]
    title: str
    button: str
    said: str
    way: str  # how the path begins by which the click takes effect; "": a websocket


APPS = {
    "streamlit": App(
        STREAMLIT,
        [
            "-m",
            "streamlit",
            "run",
            "app.py",
            "--server.address=127.0.0.1",
            "--server.port=%d",
            "--server.headless=true",
        ],
        "Streamlit sells",
        "[data-testid=stButton] button",
        "pressed, by its websocket",
        "",
    ),
    "gradio": App(
        GRADIO, ["app.py", "%d"], "Gradio sells", "#press", "pressed, by its queue", "/gradio_api/queue/data?"
    ),
    "dash": App(DASH, ["app.py", "%d"], "Dash sells", "#press", "pressed, by a callback", "/_dash-update-component?"),
}


def quiet(directory: pathlib.Path) -> dict[str, str]:
    """Nothing is sent, and nothing of the developer's is read."""
    return {
        "HOME": str(directory),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    }


@pytest.mark.parametrize("name", APPS)
def test_app(name: str, proxy: Proxy, tmp_path: pathlib.Path, compat: Row) -> None:
    app, port = APPS[name], processes.free_port()
    (tmp_path / "app.py").write_text(app.code)
    argv = [sys.executable, *(part.replace("%d", str(port)) for part in app.argv)]
    with served(tmp_path, port, argv, quiet(tmp_path)) as address, Browser() as browser:
        tunnel = taipy_tunnel.expose(address, **link(proxy))
        page = browser.open(tunnel.url)
        page.wait_text("h1", app.title, timeout=60)
        assert page.evaluate("document.body.innerText").count(app.said) == 0
        page.click(app.button)
        page.wait_text("body", app.said, exactly=False)
        assert page.evaluate("location.href") == proxy.url
        print(f"{name}: {page.bytes / 1e6:.2f} MB, {page.websockets}, {page.errors}")
        # It came the way that the framework has for it.
        if app.way:
            eventually(lambda: any(r["path"].startswith(app.way) and r["status"] == 200 for r in tunnel.requests(1000)))
        else:
            assert len(page.websockets) == 1
        assert len(page.errors) == 1  # the 403 that the link is opened with
        assert tunnel.status.failed == 0
    compat("apps", f"{name.capitalize()} {importlib.metadata.version(name)}", TAKEN)


@pytest.mark.parametrize("code", [DASH_OBJECT, GRADIO_OBJECT], ids=["dash", "gradio"])
def test_object(code: str, proxy: Proxy, tmp_path: pathlib.Path, compat: Row) -> None:
    told = (
        "import taipy_tunnel\n"
        + filled(code, proxy)
        + "\ntunnel.wait_ready(60)\nprint(tunnel.url, flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", told],
        cwd=tmp_path,
        env={**os.environ, **quiet(tmp_path)},
        text=True,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            url = next(line for line in process.stdout if "#token=" in line).strip()
            with Browser() as browser:
                framework = "Dash" if "dash" in code else "Gradio"
                browser.open(url).wait_text("h1", f"{framework} sells", timeout=60)
        finally:
            process.kill()
    compat("apps", f"{framework} {importlib.metadata.version(framework.lower())}, expose(app)", TAKEN)


def test_streamlit_within_its_app(proxy: Proxy, tmp_path: pathlib.Path, compat: Row) -> None:
    app, port = APPS["streamlit"], processes.free_port()
    (tmp_path / "app.py").write_text(filled(STREAMLIT_OBJECT, proxy))
    argv = [sys.executable, *(part.replace("%d", str(port)) for part in app.argv)]
    with served(tmp_path, port, argv, quiet(tmp_path)) as address, Browser() as browser:
        page = browser.open(f"http://{address}/")
        page.wait_text("code", "#token=", timeout=60, exactly=False)
        browser.open(page.evaluate("document.querySelector('code').innerText")).wait_text("h1", app.title, timeout=60)
    compat("apps", f"Streamlit {importlib.metadata.version('streamlit')}, expose(streamlit) in its script", TAKEN)


def filled(code: str, proxy: Proxy) -> str:
    return code.replace("**KNOWN", f"**{link(proxy)!r}").replace("PORT", str(processes.free_port()))


@pytest.mark.parametrize("allowed", [True, False])
def test_bokeh(allowed: bool, proxy: Proxy, tmp_path: pathlib.Path, compat: Row) -> None:
    """Before Tornado 6.6 it refuses its page's websocket at an address that it was not told: which is said, once, and
    not counted as the gate's."""
    port, host = processes.free_port(), urllib.parse.urlsplit(proxy.url).netloc
    (tmp_path / "app.py").write_text(BOKEH)
    argv = [sys.executable, "-m", "bokeh", "serve", "app.py", f"--port={port}"]
    environment = {"HOME": str(tmp_path), **({"BOKEH_ALLOW_WS_ORIGIN": host} if allowed else {})}
    with served(tmp_path, port, argv, environment) as address, Browser() as browser:
        tunnel = taipy_tunnel.expose(address, **arguments(proxy))
        page = browser.open(tunnel.url)
        said = f"the app refuses the websockets of its page at {proxy.url} (403 Forbidden): the page may load "
        said += "and then not respond"
        if allowed:
            page.wait_frame(lambda frame: not frame.sent)
        else:
            eventually(lambda: any(said in line for line in tunnel.logs()))
        told = [line for line in tunnel.logs() if said in line]
        assert len(told) == (not allowed)
        assert all(f"BOKEH_ALLOW_WS_ORIGIN={host} in its environment" in line for line in told)
        assert tunnel.status.refused == 0
        assert (tunnel.status.warning is None) == allowed
        assert allowed or said in tunnel.status.warning.message
    name = f"Bokeh {importlib.metadata.version('bokeh')} on Tornado 6.5 (Panel has the same server)"
    if allowed:
        compat("apps", f"{name}, with BOKEH_ALLOW_WS_ORIGIN=HOST of the URL", TAKEN)
    else:
        compat("apps", name, f"taken: but it refuses its page's websocket; a warning says so: {said.split(' at ')[0]}")


ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%s"})
"""


def run(proxy: Proxy, directory: pathlib.Path, *program: str) -> subprocess.Popen[str]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in arguments(proxy).items()]
    argv = [sys.executable, "-m", "taipy_tunnel", "run", *options, "--", sys.executable, "-m", *program]
    environment = {**os.environ, **quiet(directory)}
    return subprocess.Popen(argv, cwd=directory, env=environment, stderr=PIPE, stdout=DEVNULL, text=True)


def ends_soon(running: subprocess.Popen[str]) -> None:
    begun = time.monotonic()
    running.send_signal(signal.SIGINT)
    running.wait(20)
    assert time.monotonic() - begun < 2.5  # what is left after 1.5 s is killed


def test_run_streamlit(proxy: Proxy, tmp_path: pathlib.Path, compat: Row) -> None:
    app, port = APPS["streamlit"], processes.free_port()
    (tmp_path / "app.py").write_text(app.code)
    program = [part.replace("%d", str(port)) for part in app.argv[1:]]
    with run(proxy, tmp_path, *program) as running, Browser() as browser:
        eventually(lambda: b"Streamlit" in fetched(proxy.url))
        page = browser.open(proxy.url)
        page.wait_text("h1", app.title, timeout=60)
        page.click(app.button)
        page.wait_text("body", app.said, exactly=False)
        ends_soon(running)
    compat("apps", "taipy-tunnel run -- streamlit run app.py", TAKEN)


def test_run_uvicorn_with_its_reloader(proxy: Proxy, tmp_path: pathlib.Path, compat: Row) -> None:
    (tmp_path / "app.py").write_text(ASGI % "one")
    with run(proxy, tmp_path, "uvicorn", "app:app", "--reload", f"--port={processes.free_port()}") as running:
        eventually(lambda: fetched(proxy.url) == b"one")
        (tmp_path / "app.py").write_text(ASGI % "two")
        eventually(lambda: fetched(proxy.url) == b"two")
        ends_soon(running)
    compat("apps", "taipy-tunnel run -- uvicorn app:app --reload", TAKEN)


def fetched(url: str) -> bytes:
    """A page, or nothing while there is none."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())
    return b""
