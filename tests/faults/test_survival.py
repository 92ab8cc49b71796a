"""The sixteen faults, with and without a fallback, through the server and without one (requirements J1 to
J4, D4, D6, I3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.survival import Asked, Faces, asked, check, faces_of, outlive
from tests.faults.survival_faults import (
    EVENTS,
    FAULTS,
    MORE_FAULTS,
    OTHER_WORDS,
    QUICK,
    SEED,
    STORY,
    TWO_THIRDS,
    Fault,
)
from turnstream.errors import StreamBroken


@pytest.fixture
async def faces(tmp_path: Path) -> AsyncIterator[Faces]:
    async with faces_of(tmp_path, QUICK) as made:
        yield made


@pytest.mark.requirement("J1", "J4", "D4", "D6", "I3")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_a_fault_is_survived_or_ends_cleanly(fault: Fault, faces: Faces) -> None:
    await _try(fault, faces)


@pytest.mark.fault(35)
@pytest.mark.parametrize("fault", MORE_FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_a_failure_that_another_model_can_mend_falls_back(fault: Fault, faces: Faces) -> None:
    await _try(fault, faces)


@pytest.mark.fault(33)
@pytest.mark.parametrize("fault", OTHER_WORDS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_answers_in_other_words_are_never_spliced(fault: Fault, faces: Faces) -> None:
    await _try(fault, faces)


async def _try(fault: Fault, faces: Faces) -> None:
    async def one(face: str, *, with_fallback: bool) -> None:
        models = asked(fault, QUICK, f"{face} {with_fallback}")
        outcome = await getattr(faces, face)(models, with_fallback=with_fallback)
        check(fault, faces, models, outcome, with_fallback=with_fallback)

    tries = [
        one(face, with_fallback=with_fallback)
        for face in ("server", "library", "chat")
        for with_fallback in (True, False)
    ]
    await asyncio.gather(*tries)


@pytest.mark.requirement("J1")
@pytest.mark.parametrize("face", ["server", "library"])
async def test_a_provider_that_is_down_for_a_while_is_left_alone_probed_and_returned_to(
    face: str, faces: Faces
) -> None:
    outage = await outlive(faces, face, face)
    retry = QUICK.retry
    assert outage.skipped, "while its circuit is open, nobody calls it"
    # Until the circuit opens, and then one probe each time that it may have come back.
    probes = QUICK.down / retry.circuit_seconds + 1
    assert retry.circuit_failures <= outage.called <= retry.circuit_failures + probes
    *others, last = outage.answered_by
    assert all(name.startswith("backup/") for name in others)
    assert last.startswith("primary/")


@pytest.mark.requirement("J1", "J2")
async def test_while_a_circuit_is_open_a_model_without_a_fallback_fails_at_once(faces: Faces) -> None:
    fault = FAULTS[3]
    models = asked(fault, QUICK, "alone")
    codes = [(await faces.server(models, with_fallback=False)).code for _ in range(3)]
    assert codes == ["overloaded_error", "overloaded_error", "circuit_open"]
    requests = len(faces.requests(models.names[0]))
    assert requests == QUICK.retry.circuit_failures
    outcome = await faces.server(models, with_fallback=False)
    assert len(faces.requests(models.names[0])) == requests
    assert outcome.attempts == [(models.primary, "circuit_open")]
    assert outcome.row is not None
    assert re.search(r"try again in \d+ s$", outcome.row["error"]["message"])
    assert (outcome.row["cost"], outcome.row["input_tokens"]) == (None, None)


@pytest.mark.requirement("J3")
@pytest.mark.parametrize("face", ["server", "library"])
@pytest.mark.parametrize("status", [400, 405, 501])
async def test_where_a_provider_does_not_stream_one_plain_call_answers(
    face: str, status: int, faces: Faces
) -> None:
    fault = Fault("no stream", f"fault=no-stream,status={status}", None, 2, (2, 0))
    models = asked(fault, QUICK, f"plain {face} {status}")
    outcome = await getattr(faces, face)(models, with_fallback=True)
    assert (outcome.code, outcome.text, outcome.notices) == (None, STORY, ["attempt_failed"])
    asked_for = [
        (request.answered.status, request.answered.stream) for request in faces.requests(models.names[0])
    ]
    # After a 405 the address without its version is asked too: the base URL may be meant otherwise.
    refused = [(status, True)] * (2 if status == 405 else 1)
    assert asked_for == [*refused, (200, False)]
    if outcome.row is not None:
        assert outcome.row["output_tokens"] == EVENTS
        assert [block["block_type"] for block in outcome.row["blocks"]] == ["text"]


@pytest.mark.requirement("J4")
@pytest.mark.parametrize("prefill", ["continue", "repeat"])
async def test_what_goes_on_is_not_doubled_whether_or_not_the_model_repeats_it(
    prefill: str, faces: Faces
) -> None:
    cut = f"fault=cut,after={TWO_THIRDS}"
    fault = Fault("cut", cut, None, 3, (1, 1), fallback=f"prefill={prefill}")
    models = asked(fault, QUICK, f"prefill {prefill}")
    outcome = await faces.server(models, with_fallback=True)
    assert (outcome.code, outcome.text, outcome.notices) == (None, STORY, ["continued"])
    assert outcome.row is not None
    assert [(block["sequence"], block["partial"]) for block in outcome.row["blocks"]] == [(0, False)]


@pytest.mark.requirement("J4")
@pytest.mark.parametrize("seed", [SEED, SEED + 1])
async def test_who_cannot_take_back_goes_on_only_with_what_repeats_what_was_shown(
    seed: int, faces: Faces
) -> None:
    models = asked(FAULTS[7], QUICK, f"repeat {seed}")
    fallback = models.fallback.replace(f"seed={SEED}", f"seed={seed}").replace("backup/", "primary/")
    reader = faces.reader(Asked(models.primary, fallback), restarts="repeat")
    if seed == SEED:
        await reader.read()
        assert reader.text == STORY
        assert reader.notices[-1].code == "restarted"
    else:
        with pytest.raises(StreamBroken) as raised:
            await reader.read()
        assert raised.value.code == "cannot_continue"
        assert reader.text
        assert STORY.startswith(reader.text)
    assert reader.resets == []


@pytest.mark.requirement("J1")
async def test_a_refused_connection_is_not_retried(faces: Faces) -> None:
    reader = faces.reader(Asked("nobody/any", f"backup/story:events={EVENTS},seed={SEED},pace=0"))
    await reader.read()
    assert reader.text == STORY
    assert [name.partition("/")[0] for name in reader.models] == ["nobody", "backup"]


@pytest.mark.requirement("J1")
async def test_a_fallback_without_a_key_is_passed_over(faces: Faces) -> None:
    primary = f"primary/story:events={EVENTS},fault=error-before,status=404"
    healthy = f"backup/story:events={EVENTS},seed={SEED},pace=0"
    reader = faces.reader(Asked(primary, healthy), between=("keyless/any",))
    await reader.read()
    assert [name.partition("/")[0] for name in reader.models] == ["primary", "keyless", "backup"]


@pytest.mark.requirement("J1")
async def test_requests_with_fallbacks_that_cannot_be_are_refused(faces: Faces) -> None:
    for fallbacks in (["nobody-knows/it"], ["no slash"], ["primary/a"] * 9):
        answer = await faces.post_turn("primary/echo", fallbacks)
        assert answer.status in {400, 422}, answer
