"""The `chat` node where no answer comes that could be used."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.core.errors import AnswerCutOff, AnswerRefused, HttpStatusError, NodeError, QuotaExhausted, ResponseError
from batchrun.testing.faulty_service import Faults, FaultyService
from batchrun.testing.loopback import Answer, LoopbackServer, json_answer
from tests.unit.nodes.chat_calls import answering, ask, chat


@pytest.mark.parametrize(
    ("content", "choice", "error", "message"),
    [
        ({"role": "assistant", "content": None, "refusal": "I will not."}, {}, AnswerRefused, "refused to answer: I will not."),
        ("", {"finish_reason": "content_filter"}, AnswerRefused, "a content filter of the service held the answer back"),
        ("Once upon", {"finish_reason": "length"}, AnswerCutOff, "it begins: Once upon.*raise max_output_tokens"),
        ({"content": None}, {"finish_reason": "length"}, AnswerCutOff, "cut off at its largest length; raise"),
        ({"content": None, "tool_calls": [{}]}, {}, ResponseError, "it wants to call a tool, and there are none"),
        ({"content": None}, {}, ResponseError, r"answered without a text \(finish_reason stop\)"),
    ],
)
async def test_what_is_no_answer_fails_with_what_it_is(content: Any, choice: dict[str, Any], error: type[NodeError], message: str) -> None:
    """Half a text, a refusal or a filtered answer must never be taken for an answer."""
    with LoopbackServer(answering(content, **choice)) as server, pytest.raises(error, match=message) as raised:
        await ask(chat(), server.url, text="a")
    assert raised.value.retryable is False


async def test_a_text_that_was_cut_off_can_be_kept() -> None:
    """Where half a summary is better than none."""
    with LoopbackServer(answering("Once upon", finish_reason="length")) as server:
        assert await ask(chat(keep_cut_off=True), server.url, text="a") == "Once upon"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (json_answer({"error": {"code": "insufficient_quota", "message": "pay"}}, status=429), QuotaExhausted, "insufficient_quota"),
        (json_answer({"error": {"message": "no credits"}}, status=402), QuotaExhausted, "no credits"),
        (
            json_answer({"error": {"code": "content_filter"}}, status=400),
            AnswerRefused,
            "a content filter of the service refused the messages",
        ),
        (json_answer({"error": {"code": "rate_limit_exceeded"}}, status=429), HttpStatusError, "rate_limit_exceeded"),
        (json_answer({"error": {"code": 503, "message": "overloaded"}}), HttpStatusError, "answered an error: .*overloaded"),
        (json_answer([1]), ResponseError, "something other than an object"),
        (json_answer({"choices": []}), ResponseError, r"without choices\[0\].message"),
        (Answer(body=b"<html>"), ResponseError, "not JSON"),
    ],
)
async def test_errors_of_a_service_are_told_apart(answer: Answer, error: type[NodeError], message: str) -> None:
    """An empty account stops the execution, a throttled call comes back, a filtered question fails its item."""
    with LoopbackServer({"/v1/chat/completions": answer}) as server, pytest.raises(error, match=message) as raised:
        await ask(chat(), server.url, text="a")
    assert type(raised.value) is error


async def test_rate_limits_and_faults_of_a_service_are_errors_that_say_so() -> None:
    """What the engine needs to know to try again."""
    with FaultyService(Faults(statuses={429: 1.0}, retry_after_seconds=3)) as service, pytest.raises(HttpStatusError) as raised:
        await ask(chat(), service.url, text="a")
    assert raised.value.retry_after_seconds == 3
