"""The alert rules and the dashboard in `deploy/` ask for metrics that there are."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from campaign_service.campaigns.waiting import Cause
from chat_store.database.engine import open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from tests.campaign.builders import MOMENT, SENDER_ID, a_user
from tests.campaign.server_pair import start_pair
from tests.harness.processes import free_address
from tests.metrics.series import Series, by_label, get, scraped

_DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = _DEPLOY / "prometheus" / "rules.yml"
TESTS_OF_RULES = _DEPLOY / "prometheus" / "rules_test.yml"
DASHBOARD = _DEPLOY / "grafana" / "herald.json"
PAGE = _DEPLOY / "README.md"

_NAME = re.compile(r"\b(?:herald|grpc|process|up)_?[a-z_]*\b(?=[{\[)\s]|$)")
_LABEL_VALUE = re.compile(r'\b(outcome|sink|state|status|cause)(?:=|!~|=~)"([^"]*)"')
# made by Prometheus itself
_OF_PROMETHEUS = {"up"}


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression under the name of its alert or of its panel."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for number, target in enumerate(panel["targets"]):
            yield f"{panel['title']} {number}", target["expr"]


@pytest_asyncio.fixture(scope="module")
async def exposed(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Series]:
    """Everything that a pair exposes which sends a campaign."""
    file = shutil.copy(sqlite_template, tmp_path_factory.mktemp("exposed") / "herald.db")
    url = f"sqlite+aiosqlite:///{file}"
    database = open_database(url)
    people = [f"p{number:03}" for number in range(300)]
    users = [a_user(id_) for id_ in (SENDER_ID, *people)]
    await sql_chat_store(database).users.upsert(users, MOMENT)
    await database.close()
    server, *workers = [free_address() for _ in range(3)]
    async with start_pair(
        url,
        campaign_metrics_listen=server,
        sender_metrics_listen=workers[0],
        dispatcher_metrics_listen=workers[1],
    ) as services:
        campaign = campaign_pb2.Campaign(
            id="spring", sender_id=SENDER_ID, user_ids=people, max_messages_per_second=1
        )
        campaign.message_template.text = "Hi"
        campaign.create_channels = True
        campaign.channel_template.type = "messaging"
        await services.create(campaign)
        await services.start()
        ready = [await get(address, "/readyz") for address in (server, *workers)]
        assert [status for status, _ in ready] == [200] * 3
        shown: Series = {}
        while not by_label(shown, "herald_campaign_waiting", "cause"):
            await asyncio.sleep(0.1)
            shown = await scraped(server)
        of_workers = [await scraped(address) for address in workers]
        yield {**shown, **of_workers[0], **of_workers[1]}


def test_each_expression_asks_for_metrics_that_are_exposed(exposed: Series) -> None:
    there = {name for name, _ in exposed} | _OF_PROMETHEUS
    asked = {where: metrics_in(expression) for where, expression in expressions()}

    assert all(asked.values())
    assert {where: names - there for where, names in asked.items() if names - there} == {}


def metrics_in(expression: str) -> set[str]:
    # the words of `by (...)` and of braces are labels
    return set(_NAME.findall(re.sub(r"\b(by|ignoring) \([^)]*\)|\{[^}]*\}", " ", expression)))


def test_each_expression_asks_for_values_that_labels_have(exposed: Series) -> None:
    there = {label for _, labels in exposed for label in labels}
    asked = {
        (label, word)
        for _, expression in expressions()
        for label, words in _LABEL_VALUE.findall(expression)
        for word in words.split("|")
    }

    assert len(asked) > 3
    assert asked <= there


def test_a_pair_exposes_less_than_a_tenth_of_the_series_that_are_allowed(exposed: Series) -> None:
    assert len(exposed) < 500


def test_each_alert_is_tested_and_says_what_is_wrong() -> None:
    tests = yaml.safe_load(TESTS_OF_RULES.read_text())["tests"]
    tested = {case["alertname"] for test in tests for case in test["alert_rule_test"]}

    assert {rule["alert"] for rule in rules()} == tested
    assert all(rule["annotations"]["summary"] for rule in rules())


def test_the_alerts_fire_when_their_tests_say() -> None:
    """By promtool, on machines that have it; the other tests here need nothing of it."""
    if promtool := shutil.which("promtool"):
        command = [promtool, "test", "rules", TESTS_OF_RULES.name]
        ran = subprocess.run(
            command, cwd=TESTS_OF_RULES.parent, check=False, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_cause_of_waiting_and_each_metric_is_documented(exposed: Series) -> None:
    page = PAGE.read_text()
    names = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name, _ in exposed
        if name.startswith(("herald_", "grpc_"))
    }

    assert {cause for cause in Cause if f"`{cause}`" not in page} == set()
    assert {name for name in names if f"`{name}`" not in page} == set()
