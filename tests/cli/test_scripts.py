"""`ask` in scripts and at a terminal: pipes, signals, closed streams, narrow windows, hostile text."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.programs import Ended, Program, run
from tests.cli.terminals import on_terminal
from turnstream.terminal.printable import printable

pytestmark = pytest.mark.requirement("L9", "R4")
ECHO = ("-m", "sim/echo:pace=0")
SILENT = "sim/story:events=300,pace=0,fault=silence,after=20"
HOSTILE = (
    "a\x1b[2Jb \x1b]52;c;aGk=\x07 \x1b]0;title\x1b\\ \x9b31m \x08\x7f \u202eevil\u202c \u2066x\u2069 \u200b\ufeff "
    "\u2028 \U000e0041 end"
)
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|"
                       "\x1b(?!\\[[0-9;]*m)")  # fmt: skip
"""Text that must never reach a terminal. Escape sequences that only set a style are our own."""
TURNSTREAM = shlex.join((sys.executable, "-m", "turnstream.cli.main"))


async def shell(line: str, cwd: Path, given: bytes | None = None) -> Ended:
    """Run a line of a script. `$turnstream` is the command."""
    async with Program(
        "-c", line, cwd=cwd, given=given, command=("bash",), environ={"turnstream": TURNSTREAM}
    ) as program:
        return await program.ended(60)


def assert_harmless(text: str) -> None:
    assert (found := FORBIDDEN.search(text)) is None, f"{found[0]!r} in {text!r}" if found else ""


async def test_hostile_text_reaches_a_pipe_but_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "hostile.txt").write_text(HOSTILE, encoding="utf-8")
    line = f"$turnstream ask {shlex.join(ECHO)} < hostile.txt"
    piped = await shell(line, tmp_path)
    assert piped.output == f"{HOSTILE}\n"
    command = ("bash", "-c", line)
    shown = await on_terminal(cwd=tmp_path, command=command, environ={"turnstream": TURNSTREAM})
    assert shown.code == 0
    assert_harmless(shown.text)
    assert "a␛[2Jb" in shown.text
    assert "\ufffdevil\ufffd" in shown.text


@pytest.mark.parametrize("form", ["--json", "--ndjson", "--no-stream", "--plain"])
async def test_no_form_of_the_output_is_raw_on_a_terminal(form: str, tmp_path: Path) -> None:
    (tmp_path / "hostile.txt").write_text(HOSTILE, encoding="utf-8")
    command = ("bash", "-c", f"$turnstream ask {shlex.join(ECHO)} {form} < hostile.txt")
    shown = await on_terminal(cwd=tmp_path, command=command, environ={"turnstream": TURNSTREAM})
    assert shown.code == 0
    assert_harmless(shown.text)
    assert "end" in shown.text


async def test_a_tool_and_an_error_are_not_raw_either(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(f'''
from turnstream import ToolContext
def lookup(city: str, context: ToolContext) -> str:
    """Look a city up."""
    context.progress({HOSTILE!r})
    return {HOSTILE!r}
''')
    asked = ("ask", "x", "-m", "sim/tools:pace=0", "--functions", "tools.py", "-T", "lookup")
    shown = await on_terminal(*asked, cwd=tmp_path)
    assert shown.code == 0
    assert_harmless(shown.text)
    assert shown.text.count("a␛[2Jb") >= 2, "the progress and the result are shown"
    failed = await on_terminal("ask", "x", "-m", f"sim/{HOSTILE}", cwd=tmp_path)
    assert failed.code == 1
    assert_harmless(failed.text)
    assert "no simulated model" in failed.text


@given(st.text())
def test_visible_text_has_no_control_characters(text: str) -> None:
    shown = printable(text)
    assert_harmless(shown)
    shown.encode()
    assert len(shown) == len(text.replace("\r", ""))
    if text.isalnum():
        assert shown == text, "letters and digits of all scripts stay"


async def test_unicode_is_whole_in_a_narrow_terminal(tmp_path: Path) -> None:
    text = "日本語 é é 👩‍👩‍👧‍👦 مرحبا שלום 🇩🇪 " + "wide " * 20
    shown = await on_terminal("ask", text, *ECHO, cwd=tmp_path, columns=10)
    assert shown.code == 0
    assert shown.text.replace("\r\n", "\n").strip() == text.strip()
    help_text = await on_terminal("ask", "--help", cwd=tmp_path, columns=20, environ={"COLUMNS": "20"})
    assert help_text.code == 0


async def test_ctrl_c_at_the_terminal_stops_the_answer(tmp_path: Path) -> None:
    shown = await on_terminal("ask", "x", "-m", SILENT, cwd=tmp_path, typed_after={" ": b"\x03"})
    assert shown.code == 130
    assert "[stopped]" in shown.text


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
async def test_styles_can_be_turned_off(variable: str, tmp_path: Path) -> None:
    value = {"NO_COLOR": "1", "TERM": "dumb"}[variable]
    text = "**bold** `code`"
    plain = await on_terminal("ask", text, *ECHO, cwd=tmp_path, environ={variable: value})
    assert plain.text == f"{text}\r\n"
    styled = await on_terminal("ask", text, *ECHO, cwd=tmp_path)
    assert styled.text == "\x1b[1mbold\x1b[0m \x1b[36mcode\x1b[0m\r\n"


@pytest.mark.parametrize(
    ("line", "code", "output"),
    [
        (f"$turnstream ask x -m {SILENT.replace('silence', 'cut')} | cat; exit ${{PIPESTATUS[0]}}", 1, None),
        ("$turnstream ask -m sim/story:events=100000,pace=0 x | head -c 5; exit ${PIPESTATUS[0]}", 141, None),
        ("$turnstream ask -m sim/echo:pace=0 Hi <&-", 0, "Hi\n"),
        ("$turnstream ask -m sim/echo:pace=0 Hi >&-", 0, ""),
        ("$turnstream ask -m sim/echo:pace=0 Hi 2>&-", 0, "Hi\n"),
        ("$turnstream ask -m sim/echo:pace=0 <&-", 1, ""),
        ("$turnstream ask -m sim/echo:pace=0 < /dev/null", 1, ""),
        ("setsid $turnstream ask -m sim/echo:pace=0 Hi < /dev/null", 0, "Hi\n"),
        ("$turnstream ask -m sim/echo:pace=0 Hi > /dev/full", 1, ""),
        ("echo Hi | $turnstream ask -m sim/echo:pace=0 | $turnstream ask -m sim/echo:pace=0 --no-store", 0, "Hi\n"),
        ("$turnstream ask -m sim/echo:pace=0 $'caf\\xe9' | od -An -tx1 | tr -d ' \\n'", 0, "636166efbfbd0a"),
    ],
    ids=["a failure in a pipe", "a reader that leaves", "no input", "no output", "no errors", "no question",
         "an empty question", "no terminal", "a full disk", "a chain", "bytes"],
)  # fmt: skip
async def test_a_line_of_a_script(line: str, code: int, output: str | None, tmp_path: Path) -> None:
    once = "export TURNSTREAM_RETRY__ATTEMPTS=1; "
    ended = await shell(once + line, tmp_path)
    assert ended.code == code, ended
    if output is not None:
        assert ended.output == output
    assert "Traceback" not in ended.errors
    assert "Exception ignored" not in ended.errors
    if code in (1, 2):
        assert ended.errors.splitlines()[-1].startswith("turnstream: ")


async def test_what_is_left_of_an_interrupted_answer_is_whole_lines_of_json(tmp_path: Path) -> None:
    async with Program("ask", "x", "-m", SILENT, "--ndjson", cwd=tmp_path) as program:
        await program.until(r"block_delta")
        program.process.terminate()
        ended = await program.ended()
    assert ended.code == 143
    assert ended.output.endswith("}\n")
    assert '"turn_cancelled"' in ended.output.splitlines()[-1]


async def test_the_answer_to_a_script_has_no_styles(tmp_path: Path) -> None:
    ended = await run("ask", "**bold** `code`", *ECHO, cwd=tmp_path)
    assert ended.output == "**bold** `code`\n"
