"""The built-in tools: right answers, and no input that holds the process."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnstream.tools import builtin
from turnstream.tools.base import ToolError
from turnstream.tools.builtin import MAX_BITS, MAX_EXPRESSION, MAX_NESTING, calculator, clock

DIGITS_OF_THE_LARGEST = len(str(2**MAX_BITS))

numbers = st.sampled_from(
    ["0", "1", "-1", "2", "9", "0.5", "1e308", "-20000000", "20000000", "9" * 60, "e", "pi"]
)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner).map(
            "(%s%s%s)".__mod__
        ),
        st.tuples(st.sampled_from(sorted(builtin._FUNCTIONS)), inner).map("%s(%s)".__mod__),
        st.tuples(st.sampled_from(["round", "min", "max", "log"]), inner, inner).map("%s(%s,%s)".__mod__),
    ),
    max_leaves=20,
)


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    "expression",
    [
        "round(1, -20000000)",
        "round(1, -(10**9))",
        "round(10**600, -(2**62))",
        "round(1, 10**1200)",
        "9**9**9",
        "2**-(9**99)",
        "(9**999)*(9**999)",
        "(2**4095)+(2**4095)",
        "floor(1e308)*floor(1e308)*floor(1e308)*floor(1e308)*floor(1e308)",
        "max(2**4000, 1)**2",
        "((" * MAX_NESTING + "1" + "))" * MAX_NESTING,
        "abs(" * 120 + "1",
        "-" * MAX_EXPRESSION,
        "1" * (MAX_EXPRESSION + 1),
    ],
)
def test_what_would_hold_the_process_is_refused(expression: str) -> None:
    with pytest.raises(ToolError):
        calculator(expression)


@pytest.mark.fault(3)
@example("round(1, -20000000)")
@given(expressions)
def test_any_arithmetic_is_worked_out_or_refused_in_bounded_numbers(expression: str) -> None:
    try:
        result = calculator(expression)
    except ToolError:
        return
    assert len(result) <= DIGITS_OF_THE_LARGEST + len("-")


@pytest.mark.fault(3)
@given(st.text(alphabet="0123456789.+-*/%()e_, \n[]{}'\"abflmnoprstux:=", max_size=60))
def test_any_text_is_worked_out_or_refused(text: str) -> None:
    try:
        calculator(text)
    except ToolError:
        return


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    "word", ["lambda", "if", "yield", "[", "{", "'", "0x", "1j", "True", "__import__", "a:=1", "\0"]
)
def test_the_parser_sees_only_arithmetic(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin.ast, "parse", lambda *_, **__: pytest.fail("the parser was reached"))
    with pytest.raises(ToolError, match="cannot work out"):
        calculator(f"1 + {word}")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("round(1234, -2)", "1200"),
        ("round(2.71828, 3)", "2.718"),
        ("round(2.5)", "2"),
        ("round(7**300, -250)", str(round(7**300, -250))),
        ("1E3 + 1_000 + .5e1", "2005.0"),
        ("(" * MAX_NESTING + "1" + ")" * MAX_NESTING, "1"),
        (" 2 *\n3 ", "6"),
        ("max(1, 2, 3) % 2", "1"),
    ],
)
def test_the_bounds_leave_room_for_everyday_arithmetic(expression: str, value: str) -> None:
    assert calculator(expression) == value


@pytest.mark.fault(3)
@pytest.mark.parametrize("zone", ["x" * 10_000, "../../dev/zero", "/dev/zero", "Europe", "a\0b", ""])
def test_the_clock_reads_nothing_but_time_zones(zone: str) -> None:
    with pytest.raises(ToolError, match="is unknown: give a name") as caught:
        clock(zone)
    assert len(str(caught.value)) < 400, "an error repeats only the start of a long name"
