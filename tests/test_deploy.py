"""What is deployed beside the program: rules, boards and manifests name only what exists, and their own tools accept them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import REGISTRY

import agents.metrics  # noqa: F401  # registers them
from agents.health import MESSAGES as REASONS
from agents.settings import Settings
from conftest import Meter

DEPLOY = Path(__file__).parents[1] / "deploy"
BOARDS = sorted((DEPLOY / "grafana" / "boards").glob("*.json"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
#: Metrics that Prometheus itself, or the client library on Linux, gives every process.
GIVEN = {"up", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes"}
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"][0]["rules"]


def known_metrics() -> set[str]:
    """Every series name that a process can have."""
    kinds = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return GIVEN | {
        family.name + suffix for family in REGISTRY.collect() for suffix in kinds.get(family.type, ("",))
    }  # fmt: skip


def panels(board: Path) -> list[dict[str, Any]]:
    return list(json.loads(board.read_text())["panels"])


def queries(board: Path) -> list[tuple[str, str]]:
    """(title, PromQL) of a board, with its variables filled in."""
    found = [(p["title"], t["expr"]) for p in panels(board) for t in p.get("targets", ()) if "expr" in t]
    return [
        (t, re.sub(r"\$__(rate_interval|range)", "5m", e).replace("$account", ".*").replace("$meter", ".*"))
        for t, e in found
    ]


def names(promql: str) -> set[str]:
    return set(re.findall(r"\b(?:drawdown|process)_\w+|\bup\b", promql))


def promtool(*arguments: str) -> None:
    """Run it; a machine without it skips, for the rest of this module is checked without."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("no promtool here (Debian: apt-get install --no-install-recommends prometheus)")
    result = subprocess.run([tool, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_accepts_configuration_and_rules_and_the_rules_do_what_they_say() -> None:
    """Each alert fires in its unit test, and does not where it must not."""
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "rules.test.yml")


def test_promtool_accepts_every_query_of_the_boards(tmp_path: Path) -> None:
    """As recording rules, for which it has a check."""
    rules = [{"record": f"board:{b.stem}:{i}", "expr": e} for b in BOARDS for i, (_, e) in enumerate(queries(b))]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
    promtool("check", "rules", str(file))


def test_rules_and_boards_name_only_metrics_that_exist() -> None:
    """And every one of ours is looked at by one of them."""
    known = known_metrics()
    asked = [rule["expr"] for rule in RULES] + [expr for board in BOARDS for _, expr in queries(board)]
    named = {name for expr in asked for name in names(expr)}
    assert named - known == set()
    ours = {re.sub("_(bucket|count|sum)$", "", name) for name in known if name.startswith("drawdown_")}
    looked_at = {re.sub("_(bucket|count|sum)$", "", name) for name in named}
    assert ours - looked_at == set()


def test_every_alert_is_tested_and_has_a_section_in_the_runbook() -> None:
    """With what is seen, what it means and what to do."""
    runbook = (DEPLOY / "runbook.md").read_text()
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules.test.yml").read_text())["tests"]
    fires = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    alerts = {rule["alert"]: rule for rule in RULES if "alert" in rule}
    assert fires == alerts.keys()
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"]["runbook"] == f"deploy/runbook.md#{name.lower()}"
        _, found, section = runbook.partition(f"\n## {name}\n")
        assert found, name
        assert re.findall(r"^\*\*(\w+)\.\*\*", section.split("\n## ")[0], re.M) == ["Seen", "Means", "Do"], name


def test_the_runbook_knows_every_reason_of_readyz() -> None:
    """Each is explained."""
    runbook = (DEPLOY / "runbook.md").read_text()
    assert {code for code in REASONS if f"| `{code}` |" not in runbook} == set()


@pytest.mark.parametrize("board", BOARDS, ids=lambda p: p.stem)
def test_boards_are_whole(board: Path) -> None:
    """Unique ids, nothing on top of anything else, data sources that are provisioned."""
    every = panels(board)
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/drawdown.yml").read_text())["datasources"]
    sources = {source["uid"] for source in provisioned}
    assert len({p["id"] for p in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"], panel["title"]
        assert panel["type"] == "row" or panel["datasource"]["uid"] in sources, panel["title"]


def test_clickhouse_answers_every_query_of_the_boards(meter: Meter) -> None:
    """On the real schema, for an account that has nothing."""
    values = {"${account:sqlstring}": "'acct'", "${day:sqlstring}": "'2026-11-24'", "${meter:sqlstring}": "'logs'"}
    asked = 0
    for board in BOARDS:
        told = json.loads(board.read_text())
        sql = [v["query"] for v in told["templating"]["list"] if v["datasource"]["uid"] == "clickhouse"]
        sql += [t["rawSql"] for p in told["panels"] for t in p.get("targets", ()) if "rawSql" in t]
        for query in sql:
            for name, value in values.items():
                query = query.replace(name, value)  # noqa: PLW2901  # filled in step by step
            query = re.sub(r"\$__timeFilter\((\w+)\)", r"(\1 > now() - 3600)", query)  # noqa: PLW2901  # as above
            assert "$" not in query
            assert meter.rows(query) == []
            asked += 1
    assert asked > 8


@pytest.mark.parametrize("path", [p for p in MANIFESTS if p.stem != "kustomization"], ids=lambda p: p.stem)
def test_kubernetes_accepts_the_manifests(path: Path) -> None:
    """Against the schemas of the API, strictly: an unknown field is an error."""
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, "1.34", strict=True)


def documents() -> list[dict[str, Any]]:
    return [d for p in MANIFESTS for d in yaml.safe_load_all(p.read_text())]


def test_the_manifests_fit_together_and_to_the_program() -> None:
    """Settings exist, secrets are references, what is long-running is probed, and disruption budgets select it."""
    found = {(d["kind"], d.get("metadata", {}).get("name")): d for d in documents()}
    (config,) = (d for d in found.values() if d["kind"] == "ConfigMap")
    assert {name.removeprefix("DRAWDOWN_").lower() for name in config["data"]} <= Settings.model_fields.keys()
    Settings(**{name.removeprefix("DRAWDOWN_").lower(): value for name, value in config["data"].items()})
    (kustomization,) = (d for d in found.values() if d["kind"] == "Kustomization")
    assert {f"{p.stem}.yaml" for p in MANIFESTS} == {*kustomization["resources"], "kustomization.yaml"}
    assert not any(d["kind"] == "Secret" for d in found.values()), "secrets are not in a repository"
    for name in ("drawdown-worker", "drawdown-api"):
        pod = found["Deployment", name]["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert str(ports[container["readinessProbe"]["httpGet"]["port"]]) in config["data"].values()
        assert pod["metadata"]["annotations"]["prometheus.io/port"] in config["data"].values()
        (password,) = container["env"]
        assert set(password["valueFrom"]) == {"secretKeyRef"}
        selector = found["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"]
        assert selector.items() <= pod["metadata"]["labels"].items()


def test_compose_runs_prometheus_and_grafana_on_these_files() -> None:
    """Mounted paths exist, and Prometheus scrapes services by their names."""
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        mounted = [v.split(":")[0] for v in services[name]["volumes"] if v.startswith("./")]
        assert mounted, name
        assert all((DEPLOY.parent / path).exists() for path in mounted), mounted
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    scraped = {host for job in config["scrape_configs"] for host in job["dns_sd_configs"][0]["names"]}
    assert scraped <= services.keys()
    assert "/readyz" in str(services["worker"]["healthcheck"]["test"])
