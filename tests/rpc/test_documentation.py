"""The documentation names what is there."""

import re
import tomllib
from pathlib import Path

import pytest

from campaign_service.settings import CampaignSettings
from herald_rpc.process.settings import ServerSettings
from segment_service.settings import SegmentSettings

_ROOT = Path(__file__).parents[2]
_PAGES = [
    page
    for page in sorted({*_ROOT.glob("*.md"), *_ROOT.glob("[a-z]*/*.md")})
    if page.name != "CHANGELOG.md"
]
_TEST_FILE = re.compile(r"\btest_\w+\.py\b")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_each_test_file_that_a_page_names_exists(page: Path) -> None:
    files = {file.name for file in (_ROOT / "tests").rglob("test_*.py")}

    assert set(_TEST_FILE.findall(page.read_text())) <= files


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_each_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]

    assert broken == []


@pytest.mark.parametrize("settings", [SegmentSettings, CampaignSettings])
def test_each_setting_is_documented(settings: type[ServerSettings]) -> None:
    page = (_ROOT / "deploy" / "README.md").read_text()
    names = {f"`HERALD_{name.upper()}`" for name in settings.model_fields}

    assert {name for name in names if name not in page} == set()


def test_nothing_installs_a_package_that_somebody_else_has_named_herald() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    asked_for = [
        requirement
        for extra in project["optional-dependencies"].values()
        for requirement in extra
        if re.match(r"herald\b", requirement)
    ]
    undocumented = [
        line
        for page in [*_PAGES, _ROOT / "Makefile"]
        for line in page.read_text().splitlines()
        if re.search(r"pip install[^`]*[\s'\"]herald(\[|['\"\s`]|$)", line)
    ]

    assert project["name"] == "herald-campaigns"
    assert all(requirement.startswith("herald-campaigns[") for requirement in asked_for)
    assert undocumented == []
