"""Alert rules and webhooks by HTTP, on real servers and to a real receiver."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receiver import Receiver
from served import Served, X, Y, path

PROBLEM = "application/problem+json"
DEFAULTS = {
    "thresholds": ["0.8", "0.9", "1"], "hysteresis": "0.05", "meters": None, "forecast": True, "amounts": {},
    "total_amount": None, "receivers": None,
}  # fmt: skip


def test_alert_rules(served: Served) -> None:
    """The defaults, rules of one's own, and the defaults again."""
    rules, target = {"thresholds": [0.55, "0.60"], "amounts": {"logs": "75.00"}}, path(Y, "alert-rules")
    with served.client("y") as client:
        assert client.get(target).json() == DEFAULTS
        wanted = DEFAULTS | {"thresholds": ["0.55", "0.6"], "amounts": {"logs": "75"}}
        assert client.put(target, json=rules).json() == wanted == client.get(target).json()
        assert client.delete(target).status_code == 204
        assert client.get(target).json() == DEFAULTS
    with served.client("x") as client:
        assert [client.request(m, target).status_code for m in ("GET", "PUT", "DELETE")] == [404] * 3
    with served.client("reader") as client:
        assert client.get(path(X, "alert-rules")).is_success
        assert client.put(path(X, "alert-rules"), json=rules).status_code == 403


@pytest.mark.parametrize(
    ("rules", "at"),
    [
        ({"thresholds": [0.8, "0.80"]}, "$.thresholds"), ({"meters": ["tea"]}, "$.meters"),
        ({"thresholds": [1.5]}, "body.thresholds.0"), ({"amounts": {"logs": 0}}, "body.amounts.logs"),
        ({"hysteresis": "NaN"}, "body.hysteresis"), ({"threshold": [1]}, "body.threshold"), ("{", "body"),
    ],
)  # fmt: skip
def test_rules_that_are_not_valid(served: Served, rules: Any, at: str) -> None:
    """422, and where."""
    with served.client("y") as client:
        answer = client.put(path(Y, "alert-rules"), content=rules if isinstance(rules, str) else json.dumps(rules))
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert answer.json()["errors"][0]["at"] == at


def test_a_webhook_from_its_creation_to_its_removal(served: Served) -> None:
    """Added, told of an alert, tested, sent again, disabled, enabled and removed; its secret is told once and in no log."""
    with Receiver() as receiver, served.client("x") as client:
        added = client.post("/v1/webhooks", json={"account": X, "url": receiver.url}).json()
        secret, hook = added.pop("secret"), f"/v1/webhooks/{added['id']}"
        assert client.get(hook).json() == added
        assert client.get("/v1/webhooks", params={"account": X}).json()["webhooks"][-1] == added
        # 150 of 150 are used: a threshold that was not there before is reached at once.
        client.put(path(X, "alert-rules"), json={"thresholds": [0.55], "receivers": [added["id"]]}).raise_for_status()
        served.meter.wait(lambda: bool(receiver.messages), "the alert is told")
        (message, _, body), *_ = receiver.messages
        told = json.loads(body)
        assert (told["type"], told["data"]["id"], told["data"]["threshold"]) == ("alert.threshold", message, 0.55)

        def states() -> dict[str, str]:
            return {one["alert"]: one["state"] for one in client.get(f"{hook}/deliveries").json()["deliveries"]}

        served.meter.wait(lambda: states().get(message) == "delivered", "the delivery is written")
        before = receiver.times[message]  # at least once
        again = client.post(f"{hook}/deliveries/{message}/resend").json()
        assert again == {"id": message, "delivered": True, "status": 204, "error": ""}
        assert receiver.times[message] == before + 1
        assert client.post(f"{hook}/deliveries/none/resend").status_code == 404
        receiver.answer = lambda *_: 503
        tested = client.post(f"{hook}/test").json()
        assert (tested["delivered"], tested["status"]) == (False, 503) and receiver.verified(secret)
        assert client.post(f"{hook}/disable").json()["reason"] == "disabled by hand"
        assert client.post(f"{hook}/enable").json()["status"] == "active"
        with served.client("y") as other, served.client("reader") as reader:
            for method, more in (("GET", ""), ("DELETE", ""), ("GET", "/deliveries"), ("POST", "/deliveries/x/resend"),
                                 ("POST", "/test"), ("POST", "/disable"), ("POST", "/enable")):  # fmt: skip
                assert other.request(method, hook + more).status_code == 404
                assert reader.request(method, hook + more).status_code == (200 if method == "GET" else 403)
            assert added["id"] not in other.get("/v1/webhooks").text
            assert other.post("/v1/webhooks", json={"account": X, "url": receiver.url}).status_code == 404
        assert client.delete(hook).status_code == 204
        assert client.get(hook).status_code == 404
        client.delete(path(X, "alert-rules")).raise_for_status()
    assert secret not in served.log.read_text() and added["id"] in served.log.read_text()


@pytest.mark.parametrize(
    ("wanted", "at"),
    [
        ({"url": "ftp://example.com/"}, "body.url"),
        ({}, "body.url"),
        ({"url": "https://e.com", "kinds": []}, "body.kinds"),
    ],
)
def test_webhooks_that_are_not_valid(served: Served, wanted: dict[str, Any], at: str) -> None:
    """422, and where."""
    with served.client("x") as client:
        answer = client.post("/v1/webhooks", json={"account": X} | wanted)
    assert (answer.status_code, answer.json()["errors"][0]["at"]) == (422, at)
