"""The `chat` node: what is asked, and what is made of the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.core.errors import InvalidAnswer, InvalidValue, JobError, ResponseError
from batchrun.core.files import File
from batchrun.core.job import Batch, Run
from batchrun.core.policies import Budget
from batchrun.core.prices import Price
from batchrun.nodes.chat_messages import ChatMessage
from batchrun.testing.faulty_service import Chat, FaultyService
from batchrun.testing.loopback import LoopbackServer, json_answer
from batchrun.workflows.scope import Scope
from tests.unit.nodes.answer_types import Point, Ticket
from tests.unit.nodes.chat_calls import answering, ask, chat, opened, planned


async def test_what_stands_in_the_job_is_what_the_model_gets() -> None:
    """Messages, parameters, model and the largest length, and the call key, but no parameter that is null."""
    messages = (ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="{{ item.text }}", name="ann"))
    node = chat(
        messages=messages,
        parameters={"temperature": 0, "seed": "{{ item.id }}", "stop": None},
        max_output_tokens=50,
        query={"api-version": "{{ vars.model }}"},
    )
    with LoopbackServer(answering("Hello.")) as server:
        assert await ask(node, server.url, text="Hi", id=7) == "Hello."
    (sent,) = server.requests
    assert sent.path == "/v1/chat/completions?api-version=small"
    assert sent.headers["idempotency-key"] == "key-1"
    assert json.loads(sent.body) == {
        "model": "small",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "ann"}],
        "temperature": 0,
        "seed": 7,
        "max_tokens": 50,
    }


async def test_short_types_say_what_a_model_is_asked_for() -> None:
    """Decimals as text, durations in seconds; fields that may be missing as null, for services hold models only to forms without any."""
    form = {"price": "decimal(6, 2)", "takes": "duration", "note?": "string", "parts?": [{"at?": "date"}]}
    node = chat(response_schema=form, repair=False)
    good = '{"price": "12.50", "takes": 90, "parts": [{}]}'
    with LoopbackServer(answering(good)) as server:
        assert await ask(node, server.url, text="a") == {"price": "12.50", "takes": 90, "note": None, "parts": [{"at": None}]}
        asked = json.loads(server.requests[0].body)["response_format"]["json_schema"]
    assert asked["strict"] is True
    assert asked["schema"]["required"] == ["price", "takes", "note", "parts"]
    assert asked["schema"]["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    for bad in ("12.505", "1e3", "12345.00", 12.5):
        with LoopbackServer(answering(json.dumps({"price": bad, "takes": 90}))) as server, pytest.raises(InvalidAnswer, match="price must"):
            await ask(node, server.url, text="a")


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"response_schema": {"label": "string", "scores": ["float64"], "at": {"lat": "float64"}}}, dict),
        ({"response_schema": {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}}, dict),
        ({"response_schema": ["string"]}, list),
        ({"response_type": "tests.unit.nodes.answer_types:Ticket"}, Ticket),
        ({"response_type": Point}, Point),
        ({"response_type": "tests.unit.nodes.answer_types:Named"}, dict),
        ({"response_type": "tests.unit.nodes.answer_types:Bag"}, dict),
    ],
)
@pytest.mark.parametrize("broken_answers", [0, 1])
async def test_an_answer_has_the_form_of_the_job(options: dict[str, Any], value: type, broken_answers: int) -> None:
    """Whichever way the form is said; a model that gets it wrong is told once what was wrong, and gets another chance."""
    node = chat(**options)
    with FaultyService(chat=Chat(broken_answers=broken_answers)) as service:
        output = await ask(node, service.url, text="What is it?")
        calls = service.seen().calls
    assert type(output) is value
    assert len(calls) == 1 + broken_answers
    asked = json.loads(calls[0].body)["response_format"]["json_schema"]
    assert asked["schema"]["type"] == "object"
    assert asked["strict"] is ("type" not in (options.get("response_schema") or {}))
    if broken_answers:
        *_, said, told = json.loads(calls[1].body)["messages"]
        assert said == {"role": "assistant", "content": '{"broken": true}'}
        assert told["role"] == "user"
        assert "That answer cannot be used: " in told["content"]
        assert calls[1].headers["idempotency-key"] != calls[0].headers["idempotency-key"]


@pytest.mark.parametrize(
    ("repair", "calls", "message"),
    [(True, 2, 'also after it was told so: label must be "bug" or "question", got "x"'), (False, 1, 'of the job: label must be "bug"')],
)
async def test_a_second_wrong_answer_fails_the_item_and_names_the_field(repair: bool, calls: int, message: str) -> None:
    """One repair, not a loop that pays for ever."""
    schema = {"type": "object", "properties": {"label": {"enum": ["bug", "question"]}}}
    with LoopbackServer(answering('{"label": "x"}')) as server:
        with pytest.raises(InvalidAnswer) as raised:
            await ask(chat(response_schema=schema, repair=repair), server.url, text="a")
        assert len(server.requests) == calls
    assert message in str(raised.value)
    assert raised.value.retryable is False


@pytest.mark.parametrize("by", ["json_object", "prompt"])
async def test_services_without_schemas_are_told_in_words(by: str) -> None:
    """And models that like to put their JSON into a fence are understood."""
    with LoopbackServer(answering('```json\n{"label": "a"}\n```')) as server:
        assert await ask(chat(response_schema={"label": "string"}, schema_by=by), server.url, text="a") == {"label": "a"}
    body = json.loads(server.requests[0].body)
    assert body.get("response_format") == ({"type": "json_object"} if by == "json_object" else None)
    assert body["messages"][-1]["role"] == "system"
    assert '"additionalProperties": false' in body["messages"][-1]["content"]


async def test_images_and_files_are_parts_of_a_message() -> None:
    """By reference: inputs that are files, outputs of file nodes, data URIs, addresses; a picture that is missing is left out."""
    photo = File(name="p.png", media_type="image/png", content=b"abc")
    parts = [
        {"text": "See {{ item.id }}:"},
        {"image": "{{ inputs.photo }}", "detail": "low"},
        {"image": "https://example.com/{{ item.id }}.png"},
        {"image": "{{ inputs.missing }}"},
        {"file": "{{ inputs.output }}", "name": "letter.pdf"},
        {"audio": "data:audio/wav;base64,YWJj"},
        {"type": "text", "text": "{{ item.text }}"},
    ]
    output = {"name": "x.pdf", "media_type": "application/pdf", "size_bytes": 3, "content": b"abc"}
    node = chat(messages=(ChatMessage(role="user", content=parts),), inputs={"photo": 1, "missing": 2, "output": 3})
    with LoopbackServer(answering("ok")) as server:
        await ask(node, server.url, {"photo": photo, "missing": None, "output": output}, id=7, text="thanks")
    (message,) = json.loads(server.requests[0].body)["messages"]
    assert message["content"] == [
        {"type": "text", "text": "See 7:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/7.png"}},
        {"type": "file", "file": {"filename": "letter.pdf", "file_data": "data:application/pdf;base64,YWJj"}},
        {"type": "input_audio", "input_audio": {"data": "YWJj", "format": "wav"}},
        {"type": "text", "text": "thanks"},
    ]


async def test_conversations_come_from_the_data() -> None:
    """A column of messages is sent as it is, and one that a tool would have said is refused."""
    node = chat(messages="{{ item.chat }}")
    said = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "extra": 1},
        {"role": "user", "content": [{"type": "text", "text": "?"}]},
    ]
    with LoopbackServer(answering("ok")) as server:
        await ask(node, server.url, chat=said)
        assert json.loads(server.requests[0].body)["messages"][1] == {"role": "assistant", "content": "Hello"}
        for wrong, message in (
            ([], "at least one"),
            ("Hi", "must be a list"),
            ([{"role": "tool", "content": "x"}], "role must be one of system, developer"),
        ):
            with pytest.raises(InvalidValue, match=message):
                await ask(node, server.url, chat=wrong)
        assert len(server.requests) == 1


@pytest.mark.parametrize("text", [None, float("nan"), File(content=b"a")])
async def test_items_that_make_no_message_send_none(text: Any) -> None:
    """An empty cell must not become the question "None"."""
    with LoopbackServer({}) as server, pytest.raises(InvalidValue, match=r"messages\[0\].content"):
        await ask(chat(), server.url, text=text)
    assert server.requests == []


async def test_vectors_of_one_text_of_several_and_of_many_items() -> None:
    """One request for a batch of items, whose vectors come back to those they belong to."""
    with FaultyService() as service:
        one = await ask(chat(messages=(), embed="{{ item.text }}"), service.url, text="a")
        several = await ask(chat(messages=(), embed=("{{ item.text }}", "b")), service.url, text="a")
        assert several[0] == one != several[1]
        plan = planned(chat(messages=(), embed="{{ item.text }}", batch=Batch()), url=f"{service.url}/v1")
        async with opened(plan):
            together = await plan.steps[0].call_many([Scope({"text": text}, [None]) for text in ("b", "a")])
        assert together == [several[1], one]
        assert service.seen("/v1/embeddings").count == 3
        with pytest.raises(InvalidValue, match="embed must be text that is not empty, got None"):
            await ask(chat(messages=(), embed="{{ item.text }}"), service.url, text=None)


async def test_vectors_that_do_not_fit_are_refused() -> None:
    """A service that leaves one out must not shift all others by a row."""
    for data in ([], [{"embedding": "AAAA"}], [{"embedding": [1], "index": 3}], "x"):
        with LoopbackServer({"/v1/embeddings": json_answer({"data": data, "x": 1})}) as server, pytest.raises(ResponseError):
            await ask(chat(messages=(), embed="{{ item.text }}"), server.url, text="a")


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"resource": "lmm"}, "resource", 'unknown resource "lmm"; did you mean "llm"?'),
        ({"messages": ()}, "messages", "is missing; give messages, or embed for vectors"),
        ({"parameters": {"tools": []}}, "parameters.tools", "models call no tools here"),
        ({"parameters": {"stream": True}}, "parameters.stream", "answers are taken whole"),
        ({"parameters": {"max_tokens": 5}, "max_output_tokens": 6}, "parameters.max_tokens", "is given twice"),
        ({"response_schema": {"label": "strin"}}, "response_schema.label", "unknown type 'strin'; did you mean \"string\"?"),
        (
            {"response_schema": {"type": "object", "properties": {"a": {"typ": "string"}}}},
            "response_schema.properties.a.typ",
            "unknown keyword typ",
        ),
        ({"response_schema": {"data": "binary"}}, "response_schema", "a model cannot answer with bytes"),
        ({"response_type": "tests.unit.nodes.answer_types:Nope"}, "response_type", "cannot be imported: AttributeError"),
        ({"response_type": "nope"}, "response_type", "must be module:Class"),
        ({"response_type": "tests.unit.nodes.answer_types:NOT_A_TYPE"}, "response_type", "is no type that a model can answer with"),
        ({"response_type": Point, "response_schema": {"x": "float64"}}, "response_type", "give only one of them"),
        ({"response_schema": {"x": "string"}, "keep_cut_off": True}, "keep_cut_off", "what is cut off has no form"),
        ({"embed": "{{ item.text }}"}, "messages", "embed asks for vectors"),
        ({"messages": (ChatMessage(role="user", content="{{ item.txt }}"),)}, "messages[0].content", 'unknown column "txt"'),
        (
            {"messages": (ChatMessage(role="user", content=[{"picture": "x"}]),)},
            "messages[0].content[0]",
            "exactly one of text, image, file and audio",
        ),
        ({"messages": (ChatMessage(role="user", content=[{"image": "x", "size": 1}]),)}, "messages[0].content[0].size", "unknown key size"),
        ({"batch": Batch()}, "batch", "makes one call for each item"),
        ({"resource": "bare"}, "resource", "base_url of 'bare' is missing; give it"),
    ],
)
def test_mistakes_are_found_before_the_first_item(options: dict[str, Any], path: str, message: str) -> None:
    """A wrong job must cost nothing."""
    with pytest.raises(JobError) as raised:
        planned(chat(**options))
    assert any(f"workflow.nodes[0].{path}: " in str(each) and message in str(each) for each in raised.value.problems), raised.value


def test_a_budget_of_costs_needs_prices() -> None:
    """Else it would never be reached; without such a budget nobody needs to know prices."""
    run = Run(budget=Budget(max_cost=1.0))
    with pytest.raises(JobError, match=r"'small' has no price, and there is a run.budget.max_cost.*did you mean \"smal\""):
        planned(chat(), run=run, smal=Price(input_per_million=1))
    planned(chat(), run=run, small=Price(input_per_million=1))
    planned(chat(model="{{ item.text }}"), run=run)
    planned(chat())
