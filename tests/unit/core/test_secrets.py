"""Taking secrets out of what is written down or shown."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus

import pytest

from batchrun.core.errors import ErrorRecord
from batchrun.core.secrets import MASKED, Mask

SECRETS = ["s3cr3t", "a b/c+d&e=f", 'quo"te\\back', "Grüße, 世界!", "-----BEGIN KEY-----\nMIIEvQIBADANBgkq+/\n-----END KEY-----", "<b>&'x'"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_in_every_form_it_may_take(secret: str) -> None:
    """Who logs a request, a body or a traceback writes the secret down in the form it had there."""
    mask = Mask([secret])
    encoded = quote(secret, safe="")
    lower = re.sub("%..", lambda found: found[0].lower(), encoded)
    for form in (secret, encoded, lower, quote(secret), quote_plus(secret), repr(secret), json.dumps(secret)):
        shown = mask.text(f"before {form} after")
        assert MASKED in shown
        assert shown.startswith("before ")
        assert shown.endswith(" after")
        assert secret not in shown


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_found_wherever_the_secret_stands_in_it(before: str, encode: object) -> None:
    """Basic authentication puts the user before the password, which shifts what base64 makes of it."""
    secret = "s3cr3t?>~-key"  # noqa: S105
    text = encode(f"{before}{secret}:x".encode()).decode()  # type: ignore[operator]
    core = base64.b64encode(secret.encode()).decode()[2:-4]
    shown = Mask([secret]).text(f"Basic {text}")
    assert MASKED in shown
    assert core not in shown


def test_json_stays_json() -> None:
    """Records are read as JSON: a secret that is a number, a key or has quotes in it must not break them."""
    mask = Mask(["123456", 'quo"te!'])
    text = json.dumps({"pin": 123456, 'quo"te!': ["x", 'a quo"te! b', 1.5, None, "ü"]}).encode()
    assert json.loads(mask.json(text)) == {"pin": None, MASKED: ["x", f"a {MASKED} b", 1.5, None, "ü"]}
    untouched = b'{"a" :  1}'
    assert mask.json(untouched) is untouched


def test_what_was_cut_off_within_a_secret_is_masked() -> None:
    """Excerpts and messages have a limit, which may fall into a secret: its first half is worth a lot to a thief."""
    mask = Mask(["sk-0123456789abcdef"])
    assert mask.text("answered 400: key sk-0123456789ab…") == f"answered 400: key {MASKED}…"
    assert mask.text("key sk-0123456789ab") == f"key {MASKED}"
    assert mask.text("sk-01234 is how all of them begin") == "sk-01234 is how all of them begin"


def test_the_longer_of_two_secrets_wins() -> None:
    """Where one secret is the beginning of another, nothing of the longer one may be left."""
    assert Mask(["secret", "secret-and-more"]).text("x secret-and-more y secret") == f"x {MASKED} y {MASKED}"


def test_values_and_errors_are_masked_through() -> None:
    """Typed outputs are plain values, and errors have a traceback besides their message."""
    mask = Mask(["s3cr3t"])
    assert mask.value({"a": ["s3cr3t", b"s3cr3t", 1, None, True], "b": ("x", 2.5)}) == {
        "a": ["***", b"***", 1, None, True],
        "b": ("x", 2.5),
    }
    error = ErrorRecord("ValueError", "bad s3cr3t", "call", retryable=True, http_status=None, traceback="raise ValueError('s3cr3t')")
    assert mask.error(error)[1:2] + mask.error(error)[5:] == ("bad ***", "raise ValueError('***')")


def test_without_secrets_nothing_is_masked() -> None:
    """A job without secrets pays nothing and gets its texts as they are."""
    mask = Mask()
    assert not mask
    assert mask.text("a *** b") == "a *** b"
