"""The HTTP API on real servers: each route, keys, errors, ingestion."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary, to_structured
from cloudevents.v1.http import CloudEvent as EarlierCloudEvent
from hypothesis import HealthCheck, given, settings

from agents.api.keys import create_key, revoke_key
from agents.api.models_history import StatementLine
from agents.kafka import newest_values
from schemas.wire import StatementLine as WireStatementLine
from served import Served, X, Y, now, path
from world import binding, event, package

PROBLEM = "application/problem+json"


def test_quotas_are_those_of_the_ledger(served: Served) -> None:
    """In draw-down order, with the meters that nobody has used yet, and as ClickHouse has them."""
    with served.client("reader") as client:
        answer = client.get(path(X, "quotas")).json()
        past = client.get(path(X, "quotas"), params={"day": str((now() - timedelta(days=9)).date())}).json()
    logs, traces = answer["quotas"]
    assert (logs["meter"], logs["package"], logs["order"], logs["used"], logs["remaining"]) == ("logs", "px", 1, 150, 0)
    assert logs["workspaces"] == [
        {"workspace": "xa", "demand": 100, "covered": 100}, {"workspace": "xb", "demand": 100, "covered": 50},
    ]  # fmt: skip
    assert (logs["utilization"], logs["meter_name"], logs["kind"]) == (1.0, "Log data", "plan")
    assert (traces["meter"], traces["used"], traces["remaining"]) == ("traces", 0, 10)
    assert [(q["meter"], q["used"], q["version"]) for q in past["quotas"]] == [("logs", 0, None), ("traces", 0, None)]


def test_a_day_that_is_over_comes_from_clickhouse(served: Served) -> None:
    """The same shape, from another source."""
    then, account = now() - timedelta(days=5), "past"
    with served.client() as client:
        client.post("/v1/workspaces", json=binding("past-a", account)).raise_for_status()
        client.post("/v1/packages", json=package("past-p", account, ["past-a"], {"logs": 5}, then)).raise_for_status()
        before = served.meter.ended()
        client.post("/v1/events", json=event("past-a", "logs", 7, "p", then)).raise_for_status()
        served.settle(before + 1)

        def row() -> dict[str, Any]:  # out of two tables
            (found,) = client.get(path(account, f"quotas?day={then.date()}")).json()["quotas"]
            return {"used": found["used"], "workspaces": found["workspaces"], "said": bool(found["version"])}

        shares = [{"workspace": "past-a", "demand": 7, "covered": 5}]
        served.meter.wait(lambda: row() == {"used": 5, "workspaces": shares, "said": True}, "used 5, and by whom")


def test_what_covers_a_workspace(served: Served) -> None:
    """Its place in each package, its overage, and the limits of the Free plan."""
    with served.client() as client:
        (logs, traces) = client.get("/v1/workspaces/xb/quotas").json()["meters"]
        payg = client.get("/v1/workspaces/ya/quotas").json()
        free = client.get("/v1/workspaces/yf/quotas").json()["free"]
    assert (logs["demand"], logs["covered"], logs["overage"], logs["payg"]) == (100, 50, 50, [])
    assert (logs["packages"][0]["package"], logs["packages"][0]["place"]) == ("px", 2)
    assert traces["demand"] == 0
    assert payg["meters"][0]["payg"] == [{"retention_days": 14, "quantity": 100}]
    assert {"meter": "logs", "limit": 1_000_000, "used": 1_000_000, "stop": True} in free
    assert {"meter": "traces", "limit": 8_000, "used": 0, "stop": False} in free


def test_history(served: Served) -> None:
    """Overage, charges and the course of the day equal ClickHouse's; money is exact text."""
    with served.client("reader") as client:
        over = client.get(path(X, "overage")).json()
        charges = client.get(path(X, "charges")).json()
        course = client.get(path(X, "burndown"), params={"meter": "logs"}).json()
        missing = client.get(path(X, f"statements/{now().date()}"))
    (row,) = (row for row in over["overage"] if row["meter"] == "logs" and row["quantity"])
    assert (row["workspace"], row["quantity"], row["basis"], row["retention_days"]) == ("xb", 50, "package", None)
    (workspace,) = charges["workspaces"]
    assert (workspace["workspace"], workspace["name"]) == ("xb", "B")
    (line,) = workspace["lines"]
    assert (line["quantity"], line["units"], line["price"], line["amount"]) == (50, "0", "1.5", "0")
    assert (charges["up_to_now"], charges["up_to_yesterday"], charges["unpriced"]) == ("0", "0", 0)
    points = course["packages"][0]["points"]
    assert (points[-1]["used"], points[-1]["remaining"]) == (150, 0)
    assert [p["at"] for p in points] == sorted(p["at"] for p in points)
    assert (missing.status_code, missing.json()["detail"]) == (404, "no such statement")


def test_charges_add_up(served: Served) -> None:
    """Today's and yesterday's usage of a workspace: exact sums, by day, without a price nothing."""
    account, at = "payer", now()
    with served.client() as client:
        client.post("/v1/workspaces", json=binding("payer-a", account)).raise_for_status()
        before = served.meter.ended()
        usage = [event("payer-a", "logs", 2_500_000, f"d{d}", at - timedelta(days=d)) for d in range(2)]
        usage.append(event("payer-a", "time_series", 5, "t", at))
        client.post("/v1/events", json=usage).raise_for_status()
        served.settle(before + 3)
        today, before_that = at.date(), at.date() - timedelta(days=1)

        def charges() -> Any:
            return client.get(path(account, f"charges?from={before_that}&to={today}")).json()

        served.meter.wait(lambda: len(charges()["days"]) == 2, "two days of charges")
        served.meter.wait(lambda: charges()["up_to_now"] == "7.5", "all charges")
        found = charges()
    assert found["up_to_yesterday"] == "3.75"
    assert found["days"] == [{"day": str(before_that), "amount": "3.75"}, {"day": str(today), "amount": "3.75"}]
    logs = next(line for line in found["workspaces"][0]["lines"] if line["meter"] == "logs")
    assert (logs["quantity"], logs["units"], logs["amount"], logs["basis"]) == (5_000_000, "5", "7.5", "payg")


def test_statements(served: Served) -> None:
    """The newest revision; the answer has every field of the wire type."""
    line = {"workspace": "xb", "meter": "logs", "basis": "package", "retention_days": None, "quantity": 50, "units": "0.5",
            "price": "1.5", "amount": "0.75"}  # fmt: skip
    for revision in (1, 2):
        row = {"account": X, "day": "2026-01-05", "revision": revision, "replaces": revision - 1 or None, "currency": "CNY",
               "amount": "0.75", "lines": [line], "version": revision, "at": "2026-01-06T01:00:00Z"}  # fmt: skip
        served.meter.client.raw_insert("statements", insert_block=json.dumps(row).encode(), fmt="JSONEachRow",
                                       settings={"date_time_input_format": "best_effort"})  # fmt: skip
    with served.client("reader") as client:
        found = client.get(path(X, "statements/2026-01-05")).json()
    assert (found["revision"], found["replaces"], found["amount"]) == (2, 1, "0.75")
    assert found["lines"] == [line]
    assert set(StatementLine.model_fields) == set(WireStatementLine.__struct_fields__)


def test_alerts_are_the_topics(served: Served) -> None:
    """The newest first, of a day or of all."""
    for number, day in enumerate(("2026-01-05", "2026-01-06")):
        alert = {"id": f"al{number}", "account": "alerted", "day": day, "kind": "threshold", "meter": "logs", "package": "p",
                 "threshold": 0.8, "value": 8, "quota": 10, "version": number, "at": f"{day}T10:00:00Z"}  # fmt: skip
        served.meter.send("alerts", [(b"alerted", json.dumps(alert).encode())])
    with served.client() as client:
        served.meter.wait(lambda: client.get("/v1/accounts/alerted/alerts").is_success, "the alerts")
        served.meter.wait(lambda: len(client.get("/v1/accounts/alerted/alerts").json()["alerts"]) == 2, "both alerts")
        every = client.get("/v1/accounts/alerted/alerts").json()["alerts"]
        one = client.get("/v1/accounts/alerted/alerts?day=2026-01-05").json()["alerts"]
    assert [alert["id"] for alert in every] == ["al1", "al0"]
    assert one[0] == {"id": "al0", "account": "alerted", "day": "2026-01-05", "kind": "threshold", "meter": "logs",
                      "package": "p", "threshold": 0.8, "value": 8, "quota": 10, "version": 0,
                      "at": "2026-01-05T10:00:00Z"}  # fmt: skip


def test_registry_and_catalog(served: Served) -> None:
    """What is written is seen at once; what another account has cannot be taken over."""
    with served.client("x") as client:
        document = binding("reg-a", X, name="New", retention_days={"logs": 30})
        assert client.post("/v1/workspaces", json=document).status_code == 201
        assert client.post("/v1/workspaces", json=document).status_code == 200
        assert document.items() <= next(
            w for w in client.get("/v1/workspaces").json()["workspaces"] if w["workspace"] == "reg-a"
        ).items()  # fmt: skip
        changed = client.post("/v1/workspaces", json=document | {"retention_days": {"logs": 60}}).json()
        assert [past["days"] for past in changed["retention_before"]["logs"]] == [30]
        sold = package("reg-p", X, ["reg-a"], {"sms": 10}, now(), price="42000.00")
        assert client.post("/v1/packages", json=sold).status_code == 201
        assert client.post("/v1/packages", json=sold).status_code == 200
        (found,) = (p for p in client.get("/v1/packages").json()["packages"] if p["package"] == "reg-p")
        assert (found["quotas"], found["price"], found["workspaces"]) == ({"sms": 10}, "42000.00", ["reg-a"])
        foreign = [
            client.post("/v1/workspaces", json=binding("new", Y)),
            client.post("/v1/packages", json=sold | {"account": Y}),
        ]
        taken = client.post("/v1/workspaces", json=binding("ya", X))
        assert "logs" in {meter["meter"] for meter in client.get("/v1/catalog").json()["meters"]}
    assert [answer.status_code for answer in foreign] == [404, 404]
    assert taken.status_code == 409
    with served.client("y") as client:
        assert client.post("/v1/packages", json=sold | {"account": Y}).status_code == 409
    with served.client() as client:
        client.post("/v1/workspaces", json=binding("zoned-a", "zoned", "Asia/Shanghai")).raise_for_status()
        for name in ("zoned-a", "zoned-b"):
            short = client.post("/v1/workspaces", json={"workspace": name, "account": "zoned"}).json()
            assert short["time_zone"] == "Asia/Shanghai", "left out, it is the account's"
        accounts = {account["account"]: account for account in client.get("/v1/accounts").json()["accounts"]}
    assert {X, Y} <= accounts.keys()
    assert accounts[Y]["packages"] == 0


@pytest.mark.parametrize(
    ("route", "document", "at", "code"),
    [
        ("workspaces", binding("w", X) | {"time_zone": "Mars/X"}, "$.time_zone", "invalid_field"),
        ("workspaces", binding("w", X) | {"retention_days": {"logs": 5}}, "$.retention_days.logs", "invalid_field"),
        ("workspaces", binding("w", X, "Asia/Tokyo"), "$.time_zone", "invalid_field"),
        ("workspaces", binding("w", X, currency="USD"), "$.currency", "invalid_field"),
        ("workspaces", {"workspace": "w"}, "$.account", "invalid_field"),
        ("packages", package("p", X, ["a", "a"], {"logs": 1}, now()), "$.workspaces", "invalid_field"),
        ("packages", package("p", X, ["a"], {"tea": 1}, now()), "$.quotas.tea", "invalid_field"),
        ("packages", "{", "$", "not_json"),
    ],
)  # fmt: skip
def test_documents_are_judged_like_at_the_inlets(served: Served, route: str, document: Any, at: str, code: str) -> None:
    """422 with the code of the dead letter that the document would have become."""
    with served.client("x") as client:
        content = document if isinstance(document, str) else json.dumps(document)
        answer = client.post(f"/v1/{route}", content=content)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    (error,) = answer.json()["errors"]
    assert (error["at"], error["code"]) == (at, code)


def kafka_has(served: Served, workspace: str) -> list[Any]:
    """The usage events of a workspace that are in Kafka now, each as the topic has it."""
    topic, found = served.meter.settings.topic_prefix + "usage", []
    for partition in range(served.meter.settings.partitions):
        newest = asyncio.run(newest_values(served.meter.settings, topic, partition))
        found += [json.loads(value) for key, value in newest.items() if key == workspace.encode()]
    return [one for value in found for one in (value if isinstance(value, list) else [value])]


def test_202_means_that_kafka_has_it(served: Served) -> None:
    """At the moment of the answer, keyed by workspace, with the bytes as they came."""
    at = now()
    with served.client("ingester") as client:
        sent = [event("xa", "triggers", number, f"k{number}", at, extra="kept") for number in range(3)]
        answer = client.post("/v1/events", json=sent)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 3, "rejected": 0, "errors": []})
        assert kafka_has(served, "xa") == sent
        one = event("xb", "triggers", 1, "k9", at)
        assert client.post("/v1/events", json=one).status_code == 202
        assert kafka_has(served, "xb") == [one]


def test_errors_per_event(served: Served) -> None:
    """207 when some are valid, 400 when none is; codes and places; another account's workspace is unknown."""
    at = now()
    good = event("xa", "triggers", 1, "e1", at)
    bad = [good | {"type": "usage.tea"}, good | {"subject": "ya"}, good | {"subject": "nobody"}, {"x": 1},
           good | {"data": {"quantity": -1}}, good | {"time": (at + timedelta(hours=2)).isoformat()},
           good | {"time": (at - timedelta(days=60)).isoformat()}, good | {"data": {"quantity": 1, "retention_days": 5}}]  # fmt: skip
    codes = ["unknown_meter", "unknown_workspace", "unknown_workspace", "not_a_cloudevent", "negative_quantity",
             "from_the_future", "too_late", "unknown_retention"]  # fmt: skip
    with served.client("ingester") as client:
        some = client.post("/v1/events", json=[*bad, good])
        none = client.post("/v1/events", json=bad)
        broken = client.post("/v1/events", content="{", headers={"Content-Type": "application/json"})
        strange = client.post("/v1/events", content="x", headers={"Content-Type": "text/plain"})
        large = client.post(
            "/v1/events", content=b" " * (4 << 20) + b"{}", headers={"Content-Type": "application/json"}
        )
        many = client.post("/v1/events", json=[good] * 10_001)
    assert (some.status_code, some.json()["accepted"], some.json()["rejected"]) == (207, 1, 8)
    assert [(e["index"], e["code"]) for e in some.json()["errors"]] == list(enumerate(codes))
    assert (none.status_code, none.headers["content-type"]) == (400, PROBLEM)
    assert [e["code"] for e in none.json()["errors"]] == codes
    assert (broken.status_code, broken.json()["errors"][0]["code"]) == (400, "not_json")
    assert [a.status_code for a in (strange, large, many)] == [415, 413, 413]
    assert all(a.headers["content-type"] == PROBLEM for a in (broken, strange, large, many))


@pytest.mark.parametrize("mode", ["binary", "structured", "earlier binary", "earlier structured"])
def test_the_cloudevents_sdk_works_unchanged(served: Served, mode: str) -> None:
    """Both modes of the SDK, of its present and its earlier interface; names that a header has to escape."""
    # The earlier interface does not escape headers, as the specification wants it.
    name = mode.replace(" ", "-") if mode == "earlier binary" else f"{mode} ü %"
    attributes: dict[str, Any] = {"id": mode, "source": name, "type": "usage.logs", "subject": name}
    data = {"quantity": 12, "retention_days": 30}
    if mode.startswith("earlier"):
        earlier = EarlierCloudEvent(attributes | {"time": now().isoformat()}, data)
        headers, body = (to_binary if mode.endswith("binary") else to_structured)(earlier)
    else:
        attributes |= {"time": now(), "specversion": "1.0", "datacontenttype": "application/json"}
        message = (to_binary_event if mode == "binary" else to_structured_event)(CloudEvent(attributes, data))
        headers, body = message.headers, message.body
    with served.client() as client:
        client.post("/v1/workspaces", json=binding(name, "sdk")).raise_for_status()
        answer = client.post("/v1/events", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
    (found,) = kafka_has(served, name)
    assert (found["source"], found["subject"], found["data"]) == (name, name, data)
    total = f"SELECT quantity, converted FROM usage_totals WHERE workspace = '{name}'"
    served.meter.wait(lambda: served.meter.rows(total) == [(12, 24)], "the total")


def routes(served: Served) -> list[tuple[str, str]]:
    """Every operation of the OpenAPI document."""
    document = httpx.get(f"{served.url}/openapi.json", timeout=20).json()
    return [(method.upper(), route) for route, operations in document["paths"].items() for method in operations]


def filled(route: str, account: str, workspace: str, webhook: str = "wh_0") -> str:
    """The route of an account, of its workspace or of its webhook."""
    values = {"account": path(account, "")[len("/v1/accounts/") : -1], "workspace": workspace, "webhook": webhook,
              "day": "2026-01-05", "alert": "a", "package": "no-such-package"}  # fmt: skip
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], route)


def test_a_key_of_x_gets_404_for_y_on_every_route(served: Served) -> None:
    """Walks the OpenAPI document: routes of an account, workspace or webhook, and lists that can be asked for one."""
    walked = 0
    with served.client() as client:
        hook = {"account": Y, "url": "https://192.0.2.1/hook"}
        webhook = client.post("/v1/webhooks", json=hook).raise_for_status().json()["id"]
    with served.client("x") as client:
        for method, route in routes(served):
            if "{" in route:
                query = {"meter": "logs"}
                answer = client.request(method, filled(route, Y, "ya", webhook), params=query)
                assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM), (method, route)
                unknown = client.request(method, filled(route, "nobody", "nobody"), params=query)
                assert unknown.json()["detail"] == answer.json()["detail"], "what is not ours looks like what is not"
                if method == "GET" and "stream" not in route and "webhook" not in route:
                    assert client.get(filled(route, X, "xa"), params=query).is_success, route
                walked += 1
        lists = ("packages", "workspaces", "webhooks")
        assert {client.get(f"/v1/{name}", params={"account": Y}).status_code for name in lists} == {404}
        assert not any(Y in client.get(f"/v1/{name}").text for name in ("accounts", "packages", "workspaces"))
        assert client.post("/v1/webhooks", json=hook).status_code == 404
    with served.client() as client:
        client.delete(f"/v1/webhooks/{webhook}").raise_for_status()
    assert walked >= 15


def test_every_route_wants_a_key_and_its_scope(served: Served) -> None:
    """401 without a key or with a wrong one, 403 without the scope; before anything else is looked at."""
    wrong = served.keys["x"][:-1] + ("a" if served.keys["x"][-1] != "a" else "b")
    with (
        httpx.Client(base_url=served.url, timeout=20) as client,
        served.client("ingester") as ingester,
        served.client("reader") as reader,
    ):
        for method, route in routes(served):
            target = filled(route, X, "xa")
            for headers in ({}, {"Authorization": "Basic eA=="}, {"Authorization": f"Bearer {wrong}"}):
                answer = client.request(method, target, headers=headers)
                assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM), (method, route)
                assert answer.headers["www-authenticate"].startswith("Bearer")
            other = ingester if method == "GET" else reader
            assert other.request(method, target).status_code == 403, (method, route)


def test_keys_are_noticed_without_a_restart(served: Served) -> None:
    """A new key works, a revoked one does not, and its streams end. No key is in the log."""
    key, text = create_key(served.keys_file, [X], ["read"], "passing")
    with httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {text}"}, timeout=20) as client:
        served.meter.wait(lambda: client.get("/v1/accounts").is_success, "the key works")
        with client.stream("GET", path(X, "stream")) as stream:
            revoke_key(served.keys_file, key.id)
            stream.read()  # it ends
        assert client.get("/v1/accounts").status_code == 401
    log = served.log.read_text()
    assert key.id in log
    assert not any(secret.split("_", 2)[2] in log for secret in (text, *served.keys.values()))


def test_rate_limit(served: Served) -> None:
    """A process of its own with a small limit: 429 says when to come again; another key is not touched."""
    port = served.start(DRAWDOWN_API_RATE="0.1", DRAWDOWN_API_BURST="3")
    with served.client("x", port) as x, served.client("y", port) as y:
        answers = [x.get("/v1/accounts") for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert answers[3].headers["content-type"] == PROBLEM
        assert 0 < int(answers[3].headers["retry-after"]) <= 10
        assert y.get("/v1/accounts").status_code == 200
    assert served.stop(port) == 0


def test_errors_are_problem_details(served: Served) -> None:
    """404 of no route, 405, 422; with everything that RFC 9457 names."""
    with served.client() as client:
        answers = [client.get("/v1/nothing"), client.delete("/v1/accounts"), client.get(path(X, "quotas?day=x")),
                   client.get(path(X, "burndown?meter=tea")), client.get(path(X, "charges?from=2026-02-01&to=2026-01-01"))]  # fmt: skip
    assert [answer.status_code for answer in answers] == [404, 405, 422, 422, 422]
    for answer in answers:
        told = answer.json()
        assert answer.headers["content-type"] == PROBLEM
        assert (told["type"], told["status"], told["instance"]) == (
            "about:blank",
            answer.status_code,
            answer.request.url.path,
        )
        assert told["title"]
    assert answers[1].headers["allow"] == "GET"
    assert [answer.json()["errors"][0]["at"] for answer in answers[2:]] == ["query.day", "query.meter", "query.from"]


def test_the_dashboards_files(served: Served) -> None:
    """The page and its assets with their types, revalidated, under a policy without inline scripts."""
    with httpx.Client(base_url=served.url, timeout=20) as client:
        page = client.get("/")
        again = client.get("/", headers={"If-None-Match": page.headers["etag"]})
        found = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)
        assets = [client.get(name) for name in found]
        outside = client.get("/assets/%2e%2e/%2e%2e/settings.py")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert again.status_code == 304
    assert {a.status_code for a in assets} == {200}
    assert {"text/css", "text/javascript"} <= {a.headers["content-type"].split(";")[0] for a in assets}
    for answer in (page, *assets):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert outside.status_code == 404


def test_health_and_metrics(served: Served) -> None:
    """Ready, and what Prometheus reads."""
    with served.client() as client:
        client.get("/v1/accounts")
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = {"views_complete": True, "kafka": True, "clickhouse": True}
        served.meter.wait(lambda: client.get("/readyz").json()["checks"] == ready, "ready")
        text = client.get("/metrics").text
    assert 'drawdown_http_requests_total{method="GET",route="/v1/accounts",status="200"}' in text
    assert "drawdown_stream_clients" in text
    assert "drawdown_seconds_since_progress" in text


def test_the_openapi_document_is_kept(served: Served) -> None:
    """Schemathesis: requests out of the document, good and bad; no 500, and every answer is as the document says."""
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json").exclude(path_regex="stream$")  # has no end
    headers = {"Authorization": f"Bearer {served.keys['all']}"}
    # What the document can say of a name or a day does not make it one that there is.
    but = [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]

    def keeps(case: Any) -> None:
        case.call_and_validate(headers=headers, excluded_checks=but)

    bounded = settings(
        max_examples=8, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    for found in schema.get_all_operations():
        bounded(given(case=found.ok().as_strategy())(keeps))()


def test_the_document_has_examples(served: Served) -> None:
    """Bodies have examples, and those are accepted by the routes that they are for."""
    document = httpx.get(f"{served.url}/openapi.json", timeout=20).json()
    with served.client() as client:
        for route in ("/v1/workspaces", "/v1/packages"):
            example = document["paths"][route]["post"]["requestBody"]["content"]["application/json"]["example"]
            assert client.post(route, json=example).status_code in {200, 201}
        example = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["example"]
        answer = client.post("/v1/events", json=example | {"time": now().isoformat()})
    assert answer.status_code == 202, answer.text
