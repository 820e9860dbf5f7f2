from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from batchrun.testing.faulty_service.faults import Asked, Faults, Verdict, judge

ASKED = Asked(seconds=5, item="a", item_calls=1, all_calls=1, in_service=1, in_window=1)


def test_shares_are_kept_and_do_not_depend_on_the_order() -> None:
    """A seeded mix is a mix: about as many of each fault as asked, and the same requests meet them in any order."""
    faults = Faults(statuses={429: 0.3, 500: 0.1}, resets=0.1, seed=7)
    asked = [replace(ASKED, item=str(number)) for number in range(2_000)]
    verdicts = [judge(faults, one) for one in asked]
    shares = Counter((verdict.fault, verdict.status) for verdict in verdicts)
    assert {key: round(count / 2_000, 1) for key, count in shares.items()} == {
        ("none", 200): 0.5,
        ("status", 429): 0.3,
        ("status", 500): 0.1,
        ("reset", 0): 0.1,
    }
    assert [judge(faults, one) for one in reversed(asked)] == verdicts[::-1]
    assert [judge(replace(faults, seed=8), one) for one in asked] != verdicts


@pytest.mark.parametrize(
    ("faults", "asked", "verdict"),
    [
        (Faults(outages=((4, 6),)), {}, Verdict(fault="status", status=503, reason="outage")),
        (Faults(outages=((4, 6),)), {"seconds": 6}, Verdict()),
        (Faults(outages=((0, 1), (4, 6)), outage_answer="reset"), {}, Verdict(fault="reset", status=0, reason="outage")),
        (Faults(requests_per_minute=60, window_seconds=2), {"in_window": 2}, Verdict()),
        (
            Faults(requests_per_minute=60, window_seconds=2),
            {"in_window": 3},
            Verdict(fault="status", status=429, reason="too many requests in this window"),
        ),
        (Faults(capacity=20), {"in_service": 20}, Verdict()),
        (Faults(capacity=20), {"in_service": 21}, Verdict(fault="status", status=429, reason="too many requests at once")),
        (Faults(quota_after=3), {"all_calls": 4}, Verdict(fault="quota", status=429)),
        (Faults(hangs=1, spare_after=1), {"item_calls": 2}, Verdict()),
        (Faults(hangs=1, latency_seconds=2), {}, Verdict(fault="hang", status=0, reason="by chance", latency_seconds=2)),
    ],
)
def test_each_limit_decides_at_its_edge(faults: Faults, asked: dict[str, int], verdict: Verdict) -> None:
    """Trials are exact: a limit of 20 lets 20 through, an outage until second 6 is over at second 6."""
    assert judge(faults, replace(ASKED, **asked)) == verdict


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"hangs": 1.2}, "hangs: a share of the requests is 0 to 1, got 1.2"),
        ({"statuses": {429: 0.8}, "resets": 0.3}, "1 together at most, got 1.1"),
        ({"window_seconds": 0}, "window_seconds: must be more than 0, got 0"),
    ],
)
def test_faults_that_cannot_be_are_refused(shares: dict[str, float], message: str) -> None:
    """A mix that would silently be another one is refused when it is made."""
    with pytest.raises(ValueError, match=message):
        Faults(**shares)
