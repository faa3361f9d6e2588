"""docker-compose.yml and the Dockerfiles: valid, and as safe as they promise. No Docker is needed."""

from __future__ import annotations

import http.server
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from api.settings import ApiSettings
from cli.flower_entry import broker_url, flower_environment
from cli.supervisor.embedded_redis import STREAM_NODE_BYTES
from shared.settings import LOG_FORMAT, LOG_LEVEL, VARIABLES, Environment, Variable
from workers.native import build
from workers.native.levels import LEVELS
from workers.settings import WorkerSettings

T = TypeVar("T")
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


def test_every_service_is_checked_and_waits_for_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"redis", "api", "worker", "worker-gpu", "flower", "nginx"}
    needed = {"redis": None, "nginx": {"api": {"condition": "service_healthy"}}}
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        assert service["stop_grace_period"], name
        default = {"redis": {"condition": "service_healthy"}}
        assert service.get("depends_on") == needed.get(name, default), name


def test_every_service_is_hardened(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["tmpfs"] == ["/tmp"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"memory", "pids"}, name


def test_only_redis_and_nginx_run_images_of_others_and_none_runs_as_root(compose: dict[str, Any]) -> None:
    others = {name: service for name, service in compose["services"].items() if "image" in service}
    assert {name: service["user"] for name, service in others.items()} == {
        "redis": "999:1000",
        "nginx": "101:101",
    }
    assert all(re.search(r":\d+\.\d+-alpine$", service["image"]) for service in others.values())


def test_secrets_have_no_default(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["api"]["environment"]["BATON_API_KEYS"].startswith("${BATON_API_KEYS:?")
    assert services["flower"]["environment"]["BATON_FLOWER_AUTH"].startswith("${BATON_FLOWER_AUTH:?")


def test_only_nginx_is_reachable_from_outside(compose: dict[str, Any]) -> None:
    published = {name: service.get("ports") for name, service in compose["services"].items()}
    assert published.pop("nginx") == [
        "${BATON_PORT:-8000}:8080",
        "127.0.0.1:${BATON_FLOWER_PORT:-5555}:5555",
    ]
    assert set(published.values()) == {None}


def test_redis_is_out_of_nginx_s_reach(compose: dict[str, Any]) -> None:
    networks = {name: service["networks"] for name, service in compose["services"].items()}
    assert networks.pop("nginx") == ["front"]
    assert networks == {
        "redis": ["back"],
        "worker": ["back"],
        "worker-gpu": ["back"],
        "api": ["front", "back"],
        "flower": ["front", "back"],
    }


def test_nginx_is_made_for_the_services_that_there_are(compose: dict[str, Any]) -> None:
    nginx = compose["services"]["nginx"]
    assert nginx["volumes"] == ["./deploy/nginx/nginx.conf:/etc/baton/nginx.conf:ro"]
    conf = (ROOT / "deploy/nginx/nginx.conf").read_text()
    for name, port in re.findall(r"^ +server (\w+):(\d+) resolve", conf, re.MULTILINE):
        build = compose["services"][name]["build"]
        assert f"EXPOSE {port}\n" in (ROOT / build["dockerfile"]).read_text()
    listened = re.findall(r"^ +listen (\d+)[ ;]", conf, re.MULTILINE)
    assert [published.rpartition(":")[2] for published in nginx["ports"]] == listened


def test_gpus_are_reserved_in_their_profile_alone(compose: dict[str, Any]) -> None:
    gpu = compose["services"]["worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]
    assert gpu["environment"]["BATON_WORKER_DEVICE"] == "cuda:0"
    reserving = [
        name
        for name, service in compose["services"].items()
        if "reservations" in service["deploy"]["resources"]
    ]
    assert reserving == ["worker-gpu"]


def test_redis_keeps_what_it_acknowledged(compose: dict[str, Any]) -> None:
    redis = compose["services"]["redis"]
    command = " ".join(redis["command"])
    assert "--appendonly yes --appendfsync ${BATON_APPENDFSYNC:-always}" in command
    assert "--maxmemory-policy noeviction" in command
    assert f"--stream-node-max-bytes {STREAM_NODE_BYTES}" in command
    assert redis["volumes"] == ["redis-data:/data"]


def test_every_variable_is_a_setting(compose: dict[str, Any]) -> None:
    known = {variable.name for variable in VARIABLES}
    for service in compose["services"].values():
        assert set(service.get("environment", {})) - {"HF_TOKEN"} <= known
    assert set(re.findall(r"\$\{(BATON_\w+)", (ROOT / "docker-compose.yml").read_text())) <= known


class _Recording(Environment):
    """Remembers which variables were read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.names: set[str] = set()

    def read(self, variable: Variable[T]) -> T:
        self.names.add(variable.name)
        return super().read(variable)


def _read_by_api(env: Environment) -> None:
    ApiSettings.from_environment(env)


def _read_by_worker(env: Environment) -> None:
    WorkerSettings.from_environment(env)


def _read_by_flower(env: Environment) -> None:
    flower_environment(env)
    broker_url(env)
    for variable in (LOG_LEVEL, LOG_FORMAT):
        env.read(variable)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("api", _read_by_api),
        ("worker", _read_by_worker),
        ("worker-gpu", _read_by_worker),
        ("flower", _read_by_flower),
    ],
)
def test_every_variable_that_a_container_reads_can_be_set(
    compose: dict[str, Any], name: str, read: Callable[[Environment], None]
) -> None:
    env = _Recording(
        {"BATON_REDIS_URL": "redis://redis:6379/0", "BATON_API_KEYS": "k", "BATON_FLOWER_AUTH": "u:p"}
    )
    read(env)
    service = compose["services"][name]
    given, image = service["environment"], _image_environment(service)
    # The image sets its own addresses and home; a worker is named for its container.
    assert env.names - given.keys() - image.keys() <= {"BATON_WORKER_NAME"}
    passed = env.names - image.keys() - {"BATON_WORKER_NAME", "BATON_REDIS_URL", "BATON_WORKER_DEVICE"}
    for variable in passed:
        assert given[variable].startswith(f"${{{variable}:"), variable


def test_a_worker_may_have_a_local_model_and_a_token_of_the_hub(compose: dict[str, Any]) -> None:
    for name in ("worker", "worker-gpu"):
        service = compose["services"][name]
        assert "${MODEL_DIR:-models}:/models:ro" in service["volumes"]
        assert service["environment"]["HF_TOKEN"] == "${HF_TOKEN:-}"


def test_no_health_check_asks_a_proxy(compose: dict[str, Any]) -> None:
    """Docker gives the proxy of its own configuration to every container."""
    for name, service in compose["services"].items():
        test = service["healthcheck"]["test"]
        assert "urllib" not in str(test), name
        if "wget" in test:
            assert "-Y off" in " ".join(test), name
    for dockerfile in DOCKERFILES:
        assert "urllib" not in (ROOT / dockerfile).read_text(), dockerfile


def test_the_health_check_tells_health_from_its_absence(compose: dict[str, Any]) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            self.send_response(self.status if self.path == "/health/live" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    program = compose["services"]["api"]["healthcheck"]["test"][3]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        environ = {**os.environ, "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
        here = [sys.executable, "-c", program.replace("8000", str(server.server_address[1]))]
        healthy = subprocess.run(here, env=environ, capture_output=True).returncode
        Handler.status = 503
        unhealthy = subprocess.run(here, env=environ, capture_output=True).returncode
        server.shutdown()
        thread.join()
    assert (healthy, unhealthy) == (0, 1)
    assert subprocess.run(here, env=environ, capture_output=True).returncode == 1


def test_the_worker_image_contains_the_c_operations(tmp_path: Path) -> None:
    """The steps of the image, with a compiler that only writes a file."""
    text = (ROOT / "deploy/docker/worker.Dockerfile").read_text()
    stage = re.search(r"^FROM python:3\.11-bookworm AS native\n(.+?)\n\n", text, re.DOTALL | re.MULTILINE)
    assert stage is not None
    for source in re.findall(r"^COPY (\S+) \S+$", stage[1], re.MULTILINE):
        shutil.copytree(ROOT / source, tmp_path / "src" / source)
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho built > "$2"\n')
    compiler.chmod(0o755)
    (command,) = re.findall(r"^RUN python (-m workers\S+) /native$", stage[1], re.MULTILINE)
    # -S: the image has no packages at this step.
    subprocess.run(
        [sys.executable, "-S", *command.split(), str(tmp_path / "native")],
        cwd=tmp_path / "src",
        env={"CC": str(compiler), "PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
    )
    levels = LEVELS.get(platform.machine(), ())
    assert len(list((tmp_path / "native").glob("*.so"))) == len(levels)
    target = build._PREBUILT.relative_to(ROOT)
    assert f"FROM build AS build-cpu\nCOPY --from=native /native {target}\n" in text
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert f"{target.name}/*.so" in package_data["workers.native"]


def test_every_build_names_a_dockerfile(compose: dict[str, Any]) -> None:
    builds = [service["build"] for service in compose["services"].values() if "build" in service]
    assert {build["dockerfile"] for build in builds} == set(DOCKERFILES)


def test_every_service_starts_with_the_environment_that_it_gets(compose: dict[str, Any]) -> None:
    given = {"BATON_API_KEYS": "long-key", "BATON_FLOWER_AUTH": "user:password"}
    environments = {
        name: _image_environment(service) | _interpolated(service["environment"], given)
        for name, service in compose["services"].items()
        if "build" in service
    }
    api = ApiSettings.from_environment(Environment(environments["api"]))
    assert (api.host, api.port, api.api_keys) == ("0.0.0.0", 8000, ("long-key",))
    devices = {
        name: WorkerSettings.from_environment(Environment(environments[name])).device
        for name in ("worker", "worker-gpu")
    }
    assert devices == {"worker": "cpu", "worker-gpu": "cuda:0"}
    flower = Environment(environments["flower"])
    assert flower_environment(flower)["FLOWER_BASIC_AUTH"] == "user:password"
    assert broker_url(flower) == api.redis_url == "redis://redis:6379/0"


def test_every_command_is_there(compose: dict[str, Any]) -> None:
    texts = [(ROOT / name).read_text() for name in (*DOCKERFILES, "deploy/docker/start-worker")]
    tests = [" ".join(service["healthcheck"]["test"]) for service in compose["services"].values()]
    modules = set(re.findall(r"python\W+-m\W+([\w.]+)", "\n".join([*texts, *tests]))) - {"venv"}
    expected = {
        *("api.main", "workers.main", "workers.native.build"),
        *("cli.worker_health", "cli.models.fetch", "cli.flower_entry"),
    }
    assert modules == expected
    assert all(importlib.util.find_spec(module) for module in modules)


def _interpolated(environment: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """As compose does it with `${NAME:-default}` and `${NAME:?…}`."""

    def value(match: re.Match[str]) -> str:
        return given[match["name"]] if match["kind"] == ":?" else match["rest"]

    pattern = r"\$\{(?P<name>\w+)(?P<kind>:[-?])(?P<rest>[^}]*)\}"
    return {name: re.sub(pattern, value, text) for name, text in environment.items()}


def _image_environment(service: dict[str, Any]) -> dict[str, str]:
    text = (ROOT / service["build"]["dockerfile"]).read_text().replace("\\\n", " ")
    words = [word for line in re.findall(r"^ENV (.+)$", text, re.MULTILINE) for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words if word.startswith("BATON_"))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([hadolint, "--no-color", str(ROOT / name)], capture_output=True, text=True)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_small_unprivileged_checked_and_pinned(name: str) -> None:
    text = (ROOT / name).read_text()
    first, *others = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]
    assert first.startswith("FROM python:3.11-slim-bookworm AS build\n")
    (runtime,) = [stage for stage in others if stage.startswith("FROM python:3.11-slim-bookworm")]
    assert "pip" not in runtime
    for line in ("USER 10001", "STOPSIGNAL SIGTERM", r"CMD \[.+\]"):
        assert len(re.findall(f"^{line}$", runtime, re.MULTILINE)) == 1, line
    assert re.search(r"^HEALTHCHECK .*(\\\n)?.*CMD \[", runtime, re.MULTILINE)
    for install in re.findall(r"pip\S* .*install .*", text.replace("\\\n", "")):
        assert "--constraint constraints.txt" in install
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())


def test_the_worker_image_has_a_target_for_each_kind_of_device(compose: dict[str, Any]) -> None:
    text = (ROOT / "deploy/docker/worker.Dockerfile").read_text()
    targets = {name: compose["services"][name]["build"]["target"] for name in ("worker", "worker-gpu")}
    assert targets == {"worker": "cpu", "worker-gpu": "cuda"}
    for target in targets.values():
        assert f"FROM worker AS {target}\nCOPY --from=build-{target} /opt/baton /opt/baton\n" in text


def test_only_the_worker_image_has_torch() -> None:
    extras = {name: set(re.findall(r"'\.\[(\w+)\]'", (ROOT / name).read_text())) for name in DOCKERFILES}
    assert list(extras.values()) == [{"api"}, {"worker"}, {"cli"}]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("api.main", {"torch", "typer", "rich", "httpx", "psutil", "prompt_toolkit", "flower"}),
        ("cli.worker_health", {"fastapi", "uvicorn", "typer", "rich", "httpx", "psutil", "prompt_toolkit"}),
        ("cli.models.fetch", {"fastapi", "uvicorn", "typer", "rich", "httpx", "psutil", "prompt_toolkit"}),
        ("cli.flower_entry", {"fastapi", "uvicorn", "torch"}),
    ],
)
def test_what_an_image_runs_needs_no_package_of_another(module: str, absent: set[str]) -> None:
    program = f"import sys, {module}; sys.stdout.write(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert absent.isdisjoint(loaded.stdout.split())
