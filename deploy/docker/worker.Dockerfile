# syntax=docker/dockerfile:1
# A worker for CPUs or CUDA devices. Build from the repository root:
#   docker build -f deploy/docker/worker.Dockerfile --target cpu -t baton-worker:cpu .
#   docker build -f deploy/docker/worker.Dockerfile --target cuda -t baton-worker:cuda .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# Keep pip: a worker without BATON_MODEL uses it to fetch the default model.
RUN python -m venv /opt/baton
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY api api
COPY cli cli
COPY shared shared
COPY workers workers

# The C operations for every kind of CPU in workers/native/levels.py: the container has no compiler, a read-only root,
# and a /tmp from which nothing can be executed.
FROM python:3.11-bookworm AS native
WORKDIR /src
COPY shared shared
COPY workers workers
RUN python -m workers.native.build /native

FROM build AS build-cpu
COPY --from=native /native workers/native/prebuilt
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/baton/bin/pip install --extra-index-url "$TORCH_INDEX" --constraint constraints.txt '.[worker]'

# PyPI's torch for Linux is a CUDA build that includes everything except the driver.
FROM build AS build-cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/baton/bin/pip install --constraint constraints.txt '.[worker]'

FROM python:3.11-slim-bookworm AS worker
# The models directory must belong to the user before a volume is mounted over it.
RUN useradd --system --uid 10001 --home-dir /var/lib/baton --create-home baton \
    && install -d -o baton /var/lib/baton/models
COPY deploy/docker/start-worker /usr/local/bin/start-worker
ENV PATH=/opt/baton/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUTF8=1 \
    BATON_HOME=/var/lib/baton HF_HOME=/var/lib/baton/models/hub
USER 10001
WORKDIR /var/lib/baton
VOLUME /var/lib/baton/models
# On SIGTERM the worker hands its jobs to other workers and exits within two seconds.
STOPSIGNAL SIGTERM
# Fetching a model for the first time may take up to ten minutes.
HEALTHCHECK --interval=15s --timeout=10s --start-period=600s CMD ["python", "-m", "cli.worker_health"]
CMD ["start-worker"]

FROM worker AS cuda
COPY --from=build-cuda /opt/baton /opt/baton

# The last stage is the default for a build without --target.
FROM worker AS cpu
COPY --from=build-cpu /opt/baton /opt/baton
