"""What to do about one failed node call."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from batchrun.core.errors import HttpStatusError, InvalidValue, ResponseError, Timeout, TransportError, UndefinedReference
from batchrun.core.policies import Backoff, Match, Retry, RetryRule
from batchrun.flow.retry import CallHistory, Decision, RetryPolicy, matches

QUIET = Backoff(initial_seconds=1, max_seconds=8, multiplier=2)


class QuotaExhausted(Exception):
    """An error of a user's library."""

    class Monthly(Exception):
        """A class within a class."""


class OwnWord(Exception):
    """An error that says itself what it is."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


class OwnTypeError(TypeError):
    retryable = True


def rule(action: Literal["retry", "throttle", "fail", "stop"], error_type: str) -> RetryRule:
    return RetryRule(match=Match(error_type=error_type), action=action)


def decide(
    error: BaseException, calls: CallHistory | None = None, *, node: Retry | None = None, run: Retry | None = None, chance: float = 0.5
) -> Decision:
    policy = RetryPolicy(node=node, run=run or Retry(backoff=QUIET))
    return policy.decide(error, calls or CallHistory(attempts=1), lambda: chance)


def validation_error() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("x")
    return caught.value


@pytest.mark.parametrize(
    ("error", "action"),
    [
        *((error, "retry") for error in (ValueError("x"), OSError(), KeyError("x"), QuotaExhausted(), Timeout("x"), OwnTypeError())),
        *((HttpStatusError(f"{status}", status), "retry") for status in (408, 425, 500, 502, 503, 504)),
        *((HttpStatusError(f"{status}", status), "fail") for status in (400, 401, 403, 404, 409, 422)),
        (HttpStatusError("slow down", 429), "throttle"),
        (HttpStatusError("busy until", 503, retry_after_seconds=0.0), "throttle"),
        (TransportError("refused"), "retry"),
        (TransportError("broke off", ambiguous=True), "fail"),
        *(
            (error, "fail")
            for error in (TypeError(), AttributeError(), NameError(), ImportError(), ModuleNotFoundError(), AssertionError())
        ),
        *((error, "fail") for error in (InvalidValue("x"), UndefinedReference("x"), ResponseError("x"), validation_error())),
        *((error, "fail") for error in (SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError())),
        (OwnWord(retryable=False), "fail"),
        (OwnWord(retryable="never"), "retry"),
        (OwnWord(http_status=429), "throttle"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value)[:60],
)
def test_errors_no_rule_matches_are_judged_by_their_class(error: BaseException, action: str) -> None:
    """Calls that may succeed later are repeated; programming and validation errors, and doubtful calls, never are."""
    assert decide(error).action == action


@pytest.mark.parametrize(
    ("match", "error", "expected"),
    [
        (Match(error_type="QuotaExhausted"), QuotaExhausted(), True),
        (Match(error_type=f"{__name__}.QuotaExhausted"), QuotaExhausted(), True),
        (Match(error_type="elsewhere.QuotaExhausted"), QuotaExhausted(), False),
        (Match(error_type=f"{__name__}.QuotaExhausted.Monthly"), QuotaExhausted.Monthly(), True),
        (Match(error_type="Monthly"), QuotaExhausted.Monthly(), True),
        (Match(error_type="OSError"), ConnectionResetError(), True),
        (Match(error_type="builtins.OSError"), ConnectionResetError(), True),
        (Match(error_type="ConnectionResetError"), OSError(), False),
        (Match(error_type=("KeyError", "Timeout")), Timeout("x"), True),
        (Match(error_type="batchrun.core.errors.NodeError"), Timeout("x"), True),
        (Match(http_status=(400, 404)), HttpStatusError("x", 404), True),
        (Match(http_status=(400,)), HttpStatusError("x", 404), False),
        (Match(http_status=(400,)), ValueError(), False),
        (Match(http_status=(404,), error_type="HttpStatusError"), HttpStatusError("x", 404), True),
        (Match(http_status=(404,), error_type="Timeout"), HttpStatusError("x", 404), False),
    ],
    ids=range(15),
)
def test_rules_match_names_of_classes_and_status_codes(match: Match, error: BaseException, *, expected: bool) -> None:
    """Short, qualified and base names all work, and all conditions of a rule must hold."""
    assert matches(match, error) is expected


@pytest.mark.parametrize(
    ("node", "run", "action"),
    [
        ([rule("stop", "KeyError"), rule("fail", "LookupError")], [], "stop"),
        ([rule("fail", "LookupError"), rule("stop", "KeyError")], [], "fail"),
        ([rule("throttle", "KeyError")], [rule("stop", "KeyError")], "throttle"),
        ([rule("stop", "ValueError")], [rule("fail", "KeyError")], "fail"),
        (None, [rule("fail", "ValueError"), rule("stop", "Exception")], "stop"),
        ([], [], "retry"),
    ],
    ids=range(6),
)
def test_the_first_matching_rule_decides_those_of_the_node_first(node: list[RetryRule] | None, run: list[RetryRule], action: str) -> None:
    """What is said about one node counts more than what is said about all, and order is what the user wrote."""
    own = None if node is None else Retry(rules=tuple(node), backoff=QUIET)
    assert decide(KeyError("x"), node=own, run=Retry(rules=tuple(run), backoff=QUIET)).action == action


def test_programming_errors_can_be_retried_on_request() -> None:
    """A rule is stronger than what batchrun thinks of a class."""
    assert decide(TypeError(), run=Retry(rules=(rule("retry", "TypeError"),))).action == "retry"


@pytest.mark.parametrize("action", ["retry", "throttle"])
def test_only_a_rule_of_the_node_repeats_a_call_that_may_have_been_done(action: Literal["retry", "throttle"]) -> None:
    """A payment that was sent without an answer is not sent again because of a rule written for everything."""
    doubtful, rules = TransportError("broke off", ambiguous=True), (rule(action, "TransportError"),)
    assert decide(doubtful, run=Retry(rules=rules)).action == "fail"
    assert decide(doubtful, node=Retry(rules=rules)).action == action
    assert decide(doubtful, run=Retry(rules=(rule("stop", "TransportError"),))).action == "stop"


def test_max_attempts_counts_the_first_call() -> None:
    """Three attempts are three calls, and a node that has its own number does not use that of the run."""
    run, once = Retry(max_attempts=3, backoff=QUIET), Retry(max_attempts=1)
    assert [decide(OSError(), CallHistory(attempts), run=run).action for attempts in (1, 2, 3, 4)] == ["retry", "retry", "fail", "fail"]
    assert decide(OSError(), CallHistory(1), node=once, run=run).action == "fail"


def test_being_throttled_uses_no_attempt_but_waits_longer_each_time() -> None:
    """A service that asks for patience does not burn items, however often it asks."""
    decisions = [decide(HttpStatusError("slow down", 429), CallHistory(attempts=99, throttled=times)) for times in (0, 1, 2, 3, 4)]
    assert decisions == [Decision("throttle", wait) for wait in (0.5, 1.0, 2.0, 4.0, 4.0)]


@pytest.mark.parametrize(("throttled_seconds", "action"), [(0.0, "throttle"), (6.0, "throttle"), (6.001, "fail")])
def test_throttling_ends_at_max_throttled_seconds(throttled_seconds: float, action: str) -> None:
    """An item is put off up to the limit, the wait that is about to begin included, and then fails."""
    policy = RetryPolicy(node=None, run=Retry(backoff=QUIET), max_throttled_seconds=10)
    error = HttpStatusError("slow down", 429, retry_after_seconds=3.5)
    assert policy.decide(error, CallHistory(1, 0, throttled_seconds), lambda: 0.5).action == action


@given(st.floats(0, 1e4), st.integers(1, 50), st.floats(0, 1, exclude_max=True), st.sampled_from([429, 500]))
def test_retry_after_is_a_floor_with_jitter_on_top(asked: float, calls: int, chance: float, status: int) -> None:
    """Nobody comes back before the service wants it, and callers told the same time do not come back together."""
    run = Retry(max_attempts=100, backoff=QUIET)
    error = HttpStatusError("x", status, retry_after_seconds=asked)
    decision = decide(error, CallHistory(attempts=calls, throttled=calls - 1), run=run, chance=chance)
    assert decision.action == ("throttle" if status == 429 else "retry")
    assert decision.wait_seconds == pytest.approx(asked + chance * min(2 ** (calls - 1), 8))


@pytest.mark.parametrize("asked", ["5", -5, float("nan"), float("inf"), None, [1]], ids=repr)
def test_errors_of_users_may_carry_anything(asked: object) -> None:
    """One library's idea of retry_after_seconds must not break the run for all items."""
    assert decide(OwnWord(retry_after_seconds=asked)) == Decision("retry", 0.5)


def out_of_order(outage: Literal["unreachable", "broken"], *, ambiguous: bool = False) -> TransportError:
    """The error of a call to a service that is known to be out of order."""
    error = TransportError("gone", ambiguous=ambiguous)
    error.outage = outage
    return error


def test_a_call_that_met_an_outage_uses_no_attempt_and_comes_back_at_once() -> None:
    """It waits at the gate of the service, not in a backoff that ends too early or too late."""
    for outage in ("unreachable", "broken"):
        assert decide(out_of_order(outage), CallHistory(attempts=3)) == Decision("throttle", 0.0)


def test_a_call_that_may_be_what_breaks_the_service_is_not_made_for_ever() -> None:
    """After twenty free ones each call is an attempt; one that never reached the service cannot have broken it."""
    free, charged = CallHistory(attempts=3, throttled=19), CallHistory(attempts=3, throttled=20)
    assert [decide(out_of_order("broken"), calls).action for calls in (free, charged)] == ["throttle", "fail"]
    assert decide(out_of_order("unreachable"), CallHistory(attempts=3, throttled=10_000)).action == "throttle"


def test_an_outage_repeats_nothing_that_the_rules_do_not() -> None:
    """A rule that says fail holds, and so does that a request which may have done its work is not sent again."""
    assert decide(out_of_order("broken", ambiguous=True)).action == "fail"
    assert decide(out_of_order("unreachable"), node=Retry(rules=(rule("fail", "TransportError"),))).action == "fail"


def failed(body: bytes) -> HttpStatusError:
    error = HttpStatusError("answered 429: monthly quota used up", 429)
    error.response_body = body
    return error


@pytest.mark.parametrize(
    ("match", "body", "expected"),
    [
        (Match(message=r"quota .* up$"), b"", True),
        (Match(message="billing"), b"", False),
        (Match(body={"error.code": "quota"}), b'{"error": {"code": "quota"}}', True),
        (Match(body={"error.code": ["quota", "billing"]}), b'{"error": {"code": "billing"}}', True),
        (Match(body={"errors[0].code": 7, "ok": False}), b'{"errors": [{"code": 7}], "ok": false}', True),
        (Match(body={"errors[0].code": 7, "ok": True}), b'{"errors": [{"code": 7}], "ok": false}', False),
        (Match(body={"error.code": "quota"}), b'{"error": "quota"}', False),
        (Match(body={"error.code": "quota"}), b"<html>", False),
        (Match(http_status=(503,), body={"a": 1}), b'{"a": 1}', False),
    ],
)
def test_rules_look_at_the_message_and_the_body_of_an_answer(match: Match, body: bytes, expected: bool) -> None:
    """Services tell a used-up quota from a short pause in the body alone; the status is the same."""
    assert matches(match, failed(body)) is expected
    assert matches(Match(body={"a": 1}), ValueError("x")) is False


def test_a_pattern_that_is_none_is_refused() -> None:
    """A rule that can never match would be found out when the quota is gone."""
    with pytest.raises(ValueError, match="message: is not a regular expression"):
        Match(message="(")


def test_a_status_that_no_answer_can_have_is_refused() -> None:
    """A rule for it would never match, and the job would be tried again or fail as if it were not there."""
    with pytest.raises(ValueError, match=r"http_status.*1.*: must be a status code of three digits, got 4299"):
        Match(http_status=(429, 4299))
