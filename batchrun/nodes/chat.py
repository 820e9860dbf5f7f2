"""The `chat` node: a model behind an OpenAI-compatible service, asked for text, for data of a form, or for vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from batchrun.core.checks import at_least, problem, refuse
from batchrun.core.errors import known_values
from batchrun.core.job import NodeOptions, Resource
from batchrun.net.address import base_problem, constant_head
from batchrun.net.client import MAX_RESPONSE_BYTES
from batchrun.nodes.chat_call import Answering, ChatCall, EmbedCall
from batchrun.nodes.chat_messages import ChatMessage, compile_messages
from batchrun.nodes.chat_model import Model, ModelCall
from batchrun.nodes.chat_schema import AnswerForm, AskedBy, form_of_schema, form_of_type
from batchrun.workflows.encoding import encode
from batchrun.workflows.node import NodeCall, NodeCompiler, Render
from batchrun.workflows.scope import Scope

_CHAT, _EMBEDDINGS = "/chat/completions", "/embeddings"
_LENGTHS = ("max_tokens", "max_completion_tokens")
_OWN = {
    "model": "give it as model of the node",
    "messages": "give them as messages of the node",
    "input": "give it as embed of the node",
    "response_format": "give it as response_schema of the node",
    "stream": "answers are taken whole",
    "n": "there is one answer for each item",
    **dict.fromkeys(("tools", "tool_choice", "functions", "function_call"), "models call no tools here: that is what nodes are for"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatNode(NodeOptions):
    """Asks a model behind any OpenAI-compatible service; the output is its answer.

    The answer is text; with `response_schema` or `response_type` it is data of that form, and with `embed` a vector. What calls use is
    reported as tokens and, with `prices` in the job, as cost.
    """

    type: Literal["chat"] = "chat"
    """Asks a model for text, for data or for vectors."""
    resource: str
    """The named service; its base_url ends before `/chat/completions`."""
    model: str
    """The name of the model; a template."""
    messages: tuple[ChatMessage, ...] | str = ()
    """What the model is asked: messages whose contents are templates, or one template that gives a list of messages."""
    embed: str | tuple[str, ...] | None = None
    """In place of messages: a template of a text that is turned into a vector, or a list of them; sent to `/embeddings`."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """What the request says besides, such as `{temperature: 0}`; templates, nulls are left out."""
    max_output_tokens: int | None = None
    """The longest answer, sent as max_tokens; null: what the service takes. Services that know it under another name get that one under
    parameters."""
    response_schema: Any = None
    """The form of the answer: `{label: string, score: float64}`, or a JSON Schema."""
    response_type: str | Callable[..., Any] | None = None
    """The form of the answer as a Python type, `module:Class`: a pydantic model, a dataclass or a TypedDict."""
    schema_by: AskedBy = "json_schema"
    """How the model is told of the form. json_schema: its service holds it to the schema; json_object: its service holds it to JSON, and
    the schema is said in words; prompt: the schema is said in words."""
    repair: bool = True
    """Show the model once what is wrong with an answer that does not have the form, before the item fails."""
    keep_cut_off: bool = False
    """Take a text that was cut off at its largest length; false: the item fails."""
    query: dict[str, Any] = field(default_factory=dict)
    """Appended to the address, such as `{api-version: "2024-10-21"}`; may refer to vars."""
    record_prompt: bool = False
    """Write down what was sent, as `prompt` of the node execution."""
    idempotent: bool = True
    """Whether a request may be sent again when its answer got lost; it is then paid for twice."""
    max_response_bytes: int = MAX_RESPONSE_BYTES
    """The largest answer taken, decompressed."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(
            at_least(1, max_output_tokens=self.max_output_tokens, max_response_bytes=self.max_response_bytes),
            problem("model", None if self.model.strip() else "must be the name of a model"),
        )

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Check what is asked, and compile its templates."""
        resource = compiler.resource(self.resource, "resource")
        self._check_address(resource, compiler)
        self._check_parameters(compiler)
        model = self._model(resource, compiler)
        if self.embed is not None:
            return self._bind_vectors(model, compiler)
        return self._bind_answers(model, compiler)

    def _bind_answers(self, model: ModelCall | None, compiler: NodeCompiler) -> NodeCall | None:
        if not self.messages:
            compiler.problem("is missing; give messages, or embed for vectors", "messages")
        form, has_form = self._form(compiler), self.response_schema is not None or self.response_type is not None
        if self.keep_cut_off and has_form:
            compiler.problem("is about answers that are text: what is cut off has no form", "keep_cut_off")
        messages = compile_messages(self.messages, compiler)
        if model is None or (has_form and form is None):
            return None
        answering = Answering(
            form=form,
            form_request=form.request(self.id, self.schema_by) if form is not None else {},
            is_told=form is not None and self.schema_by != "json_schema",
            repairs=self.repair,
            keeps_cut_off=self.keep_cut_off,
        )
        call = ChatCall(model, messages, answering)
        made = self._node_call(model, call, call.key, str if form is None else form.returns)
        return made if form is None else replace(made, restore=form.restore, identity=encode(form.schema).decode())

    def _bind_vectors(self, model: ModelCall | None, compiler: NodeCompiler) -> NodeCall | None:
        for name in ("messages", "max_output_tokens", "response_schema", "response_type"):
            if getattr(self, name):
                compiler.problem("is for answers, and embed asks for vectors; give only one of them", name)
        is_list = not isinstance(self.embed, str)
        texts = compiler.template(list(self.embed) if isinstance(self.embed, tuple) else self.embed, "embed")
        if is_list and not self.embed:
            compiler.problem("must have at least one text", "embed")
        if model is None:
            return None
        call = EmbedCall(model, texts, is_list=is_list)
        made = self._node_call(model, call, call.key, list[list[float]] if is_list else list[float])
        return made if is_list else replace(made, call_many=call.call_many)

    def _node_call(self, model: ModelCall, call: Callable[[Scope], Any], key: Callable[[Scope], Any], returns: Any) -> NodeCall:
        return NodeCall(
            call=call,
            key=key,
            waits=True,
            queues=True,
            sends_call_key=True,
            wants_context=True,
            returns=returns,
            lifespan=model.lifespan,
        )

    def _form(self, compiler: NodeCompiler) -> AnswerForm | None:
        if self.response_schema is not None and self.response_type is not None:
            compiler.problem("is the form of the answer, and so is response_schema; give only one of them", "response_type")
        if self.response_schema is not None:
            return form_of_schema(self.response_schema, compiler)
        return form_of_type(self.response_type, compiler) if self.response_type is not None else None

    def _model(self, resource: Resource | None, compiler: NodeCompiler) -> ModelCall | None:
        """What sends the requests; null when there is no such service."""
        needs_price = compiler.budget.max_cost is not None
        head = constant_head(self.model, compiler, "model")
        if needs_price and head.is_all and head.text not in compiler.prices:
            known = known_values(head.text, compiler.prices, kind="prices")
            compiler.problem(f"{head.text!r} has no price, and there is a run.budget.max_cost: give it one under prices; {known}", "model")
        parameters = dict(self.parameters)
        if self.max_output_tokens is not None and not any(name in parameters for name in _LENGTHS):
            parameters["max_tokens"] = self.max_output_tokens
        name, others = self._compiled(self.model, "model", compiler), self._compiled(parameters, "parameters", compiler)
        query = compiler.constants(self.query, "query") if self.query else {}
        if resource is None:
            return None
        longest = next((parameters[name] for name in _LENGTHS if isinstance(parameters.get(name), int)), None)
        return ModelCall(
            Model(
                resource=resource,
                path=_CHAT if self.embed is None else _EMBEDDINGS,
                query=query or {},
                name=name,
                parameters=lambda scope: {key: value for key, value in others(scope).items() if value is not None},
                prices=compiler.prices,
                needs_price=needs_price,
                max_output_tokens=0 if self.embed is not None else longest,
                idempotent=self.idempotent,
                max_response_bytes=self.max_response_bytes,
                records_prompt=self.record_prompt,
            )
        )

    def _compiled(self, value: Any, name: str, compiler: NodeCompiler) -> Render:
        if self.batch is None:
            return compiler.template(value, name)
        constant = compiler.constants(value, name)  # one request is made for many items
        return lambda _scope: constant

    def _check_address(self, resource: Resource | None, compiler: NodeCompiler) -> None:
        if resource is None:
            return
        wrong = base_problem(resource.base_url)
        if wrong is None and ("?" in resource.base_url or "#" in resource.base_url):
            wrong = "must end with its path; put a query under query of the node"
        for path in (_CHAT, _EMBEDDINGS):
            if wrong is None and resource.base_url.rstrip("/").endswith(path):
                wrong = f"must end before {path}, which is appended to it"
        if wrong:
            compiler.problem(f"base_url of {self.resource!r} {wrong}", "resource")

    def _check_parameters(self, compiler: NodeCompiler) -> None:
        for name, advice in _OWN.items():
            if name in self.parameters:
                compiler.problem(f"cannot be a parameter: {advice}", "parameters", name)
        if self.max_output_tokens is not None and "max_tokens" in self.parameters:
            compiler.problem("is given twice: remove it, or max_output_tokens", "parameters", "max_tokens")
