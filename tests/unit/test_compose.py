"""docker-compose.yml and the Dockerfiles: valid, and as safe as they promise. No Docker is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import VARIABLES

ROOT = Path(__file__).parents[2]
DOCKERFILES = ["deploy/docker/api.Dockerfile", "deploy/docker/worker.Dockerfile", "deploy/flower/Dockerfile"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_every_service_is_checked_and_waits_for_a_healthy_redis(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"redis", "api", "worker", "worker-gpu", "flower"}
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        if name != "redis":
            assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}, name


def test_every_service_is_hardened(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_secrets_have_no_default(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["api"]["environment"]["BATON_API_KEYS"].startswith("${BATON_API_KEYS:?")
    assert services["flower"]["environment"]["BATON_FLOWER_AUTH"].startswith("${BATON_FLOWER_AUTH:?")


def test_only_the_api_is_reachable_from_outside(compose: dict[str, Any]) -> None:
    published = {name: service.get("ports") for name, service in compose["services"].items()}
    assert published.pop("api") == ["${BATON_PORT:-8000}:8000"]
    assert published.pop("flower") == ["127.0.0.1:${BATON_FLOWER_PORT:-5555}:5555"]
    assert set(published.values()) == {None}


def test_gpus_are_reserved_in_their_profile_alone(compose: dict[str, Any]) -> None:
    gpu = compose["services"]["worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]
    assert gpu["environment"]["BATON_WORKER_DEVICE"] == "cuda:0"
    assert [name for name, service in compose["services"].items() if "deploy" in service] == ["worker-gpu"]


def test_redis_keeps_what_it_acknowledged(compose: dict[str, Any]) -> None:
    redis = compose["services"]["redis"]
    command = " ".join(redis["command"])
    assert "--appendonly yes --appendfsync ${BATON_APPENDFSYNC:-always}" in command
    assert "--maxmemory-policy noeviction" in command
    assert redis["volumes"] == ["redis-data:/data"]


def test_every_variable_is_a_setting(compose: dict[str, Any]) -> None:
    known = {variable.name for variable in VARIABLES}
    for service in compose["services"].values():
        assert set(service.get("environment", {})) <= known
    assert set(re.findall(r"\$\{(BATON_\w+)", (ROOT / "docker-compose.yml").read_text())) <= known


def test_every_build_names_a_dockerfile(compose: dict[str, Any]) -> None:
    builds = [service["build"] for service in compose["services"].values() if "build" in service]
    assert {build["dockerfile"] for build in builds} == set(DOCKERFILES)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_small_unprivileged_checked_and_pinned(name: str) -> None:
    text = (ROOT / name).read_text()
    assert len(re.findall(r"^FROM python:3\.11-slim", text, re.MULTILINE)) == 2
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    assert "--constraint constraints.txt" in text
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())


def test_only_the_worker_image_has_torch() -> None:
    extras = {name: re.findall(r"'\.\[(\w+)\]'", (ROOT / name).read_text()) for name in DOCKERFILES}
    assert list(extras.values()) == [["api"], ["worker"], ["cli"]]
