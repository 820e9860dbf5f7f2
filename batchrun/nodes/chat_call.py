"""The calls of one `chat` node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchrun.core.errors import InvalidAnswer, InvalidValue
from batchrun.net.failures import excerpt
from batchrun.nodes.chat_answers import text_of_answer, vectors_of
from batchrun.nodes.chat_messages import Messages, shown, text_tokens, tokens_of
from batchrun.nodes.chat_model import ModelCall
from batchrun.nodes.chat_schema import AnswerForm, Misfit
from batchrun.workflows.node import Render
from batchrun.workflows.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """What is asked of a model, and what is made of its answer.

    Attributes:
        form: the form of answers; null: they are text.
        form_request: what a request says about it.
        is_told: whether the form is said in words, too.
        repairs: whether a model is told once what is wrong with its answer.
        keeps_cut_off: whether a text is taken that was cut off.
    """

    form: AnswerForm | None
    form_request: Mapping[str, Any]
    is_told: bool
    repairs: bool
    keeps_cut_off: bool


class ChatCall:
    """Asks a model.

    Args:
        model: sends the requests.
        messages: what it is asked.
        answering: what is made of its answer.
    """

    def __init__(self, model: ModelCall, messages: Messages, answering: Answering) -> None:
        self._model = model
        self._messages = messages
        self._answering = answering
        form = answering.form
        self._form_tokens = text_tokens(form.instruction) if form is not None else 0

    async def __call__(self, scope: Scope) -> Any:
        """The answer for an item."""
        body, form = self._body(scope), self._answering.form
        text = await self._answer(body, scope, key=scope.call_key, on_send=lambda: self._model.sending(scope))
        if form is None:
            return text
        try:
            return form.read(text)
        except Misfit as misfit:
            if not self._answering.repairs:
                raise _invalid(misfit, text, "") from None
            body = {**body, "messages": [*body["messages"], *_objection(text, misfit)]}
        # The item's clocks run since the first request; a service that knows the key would answer the first one again.
        text = await self._answer(body, scope, key=f"{scope.call_key}-repair" if scope.call_key else None, on_send=lambda: None)
        try:
            return form.read(text)
        except Misfit as misfit:
            raise _invalid(misfit, text, ", also after it was told so") from None

    def key(self, scope: Scope) -> Any:
        """All that is sent for an item."""
        return self._model.sent(self._body(scope))

    def _body(self, scope: Scope) -> dict[str, Any]:
        messages, answering = self._messages(scope), self._answering
        if answering.is_told and answering.form is not None:
            messages = [*messages, {"role": "system", "content": answering.form.instruction}]
        return {**self._model.head(scope), "messages": messages, **answering.form_request}

    async def _answer(self, body: Mapping[str, Any], scope: Scope, *, key: str | None, on_send: Callable[[], None]) -> str:
        messages, model = body["messages"], self._model
        model.record(lambda: shown(messages), scope)
        expected = tokens_of(messages) + (0 if self._answering.is_told else self._form_tokens), model.output_tokens()
        async with model.expecting(expected, body["model"], [scope]):
            request, answered, used = await model.ask(body, expected, [scope], key=key, on_send=on_send)
            try:
                return text_of_answer(request, answered, keeps_cut_off=self._answering.keeps_cut_off and self._answering.form is None)
            finally:
                model.count(used, body["model"], [scope])


class EmbedCall:
    """Asks a model for vectors.

    Args:
        model: sends the requests.
        texts: gives a text, or a list of them.
        is_list: which of the two.
    """

    def __init__(self, model: ModelCall, texts: Render, *, is_list: bool) -> None:
        self._model = model
        self._texts = texts
        self._is_list = is_list

    async def __call__(self, scope: Scope) -> Any:
        """The vector, or vectors, for an item."""
        body = self._body([scope])
        self._model.record(lambda: "\n\n".join(body["input"]), scope)
        vectors = await self._vectors(body, [scope], key=scope.call_key, on_send=lambda: self._model.sending(scope))
        return vectors if self._is_list else vectors[0]

    async def call_many(self, scopes: Sequence[Scope]) -> list[Any]:
        """The vectors for many items, of one request."""
        body = self._body(scopes)
        for scope, text in zip(scopes, body["input"], strict=True):
            self._model.record(lambda text=text: text, scope)  # type: ignore[misc]  # a default is how each keeps its own
        return await self._vectors(body, scopes, key=None, on_send=lambda: None)

    def key(self, scope: Scope) -> Any:
        """All that is sent for an item."""
        return self._model.sent(self._body([scope]))

    def _body(self, scopes: Sequence[Scope]) -> dict[str, Any]:
        texts = [text for scope in scopes for text in self._of(scope)]
        return {**self._model.head(scopes[0]), "input": texts}

    def _of(self, scope: Scope) -> list[str]:
        given = self._texts(scope)
        texts = list(given) if self._is_list else [given]
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text:
                where = f"embed[{number}]" if self._is_list else "embed"
                advice = "; give a list of templates for several texts" if isinstance(text, list) else ""
                raise InvalidValue(f"{where} must be text that is not empty, got {text!r:.80}{advice}")
        return texts

    async def _vectors(
        self, body: Mapping[str, Any], scopes: Sequence[Scope], *, key: str | None, on_send: Callable[[], None]
    ) -> list[list[float]]:
        tokens = list(map(text_tokens, body["input"]))
        expected = sum(tokens), 0
        async with self._model.expecting(expected, body["model"], scopes):
            request, answered, used = await self._model.ask(body, expected, scopes, key=key, on_send=on_send)
            self._model.count(used, body["model"], scopes, tokens if len(scopes) > 1 else (1,))
        return vectors_of(request, answered, len(tokens))


def _objection(text: str, misfit: Misfit) -> list[dict[str, Any]]:
    """What is said to a model whose answer does not have the form."""
    told = f"That answer cannot be used: {misfit}. Answer once more, with nothing but JSON that fits the schema."
    return [{"role": "assistant", "content": text}, {"role": "user", "content": told}]


def _invalid(misfit: Misfit, text: str, when: str) -> InvalidAnswer:
    failure = InvalidAnswer(f"the model's answer does not have the form of the job{when}: {misfit}; it answered: {excerpt(text.encode())}")
    failure.response_body = text.encode("utf-8", "replace")
    return failure
