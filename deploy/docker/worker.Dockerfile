# syntax=docker/dockerfile:1
# A worker, on the CPU or on a CUDA device. Build from the repository's root:
#   docker build -f deploy/docker/worker.Dockerfile --target cpu -t baton-worker:cpu .
#   docker build -f deploy/docker/worker.Dockerfile --target cuda -t baton-worker:cuda .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# With pip: a worker without BATON_MODEL fetches the default model by it.
RUN python -m venv /opt/baton
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY api api
COPY cli cli
COPY shared shared
COPY workers workers

FROM build AS build-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/baton/bin/pip install --extra-index-url "$TORCH_INDEX" --constraint constraints.txt '.[worker,compiler]'

# PyPI's torch for Linux is a CUDA build that brings all it needs but the driver.
FROM build AS build-cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/baton/bin/pip install --constraint constraints.txt '.[worker]'

FROM python:3.11-slim-bookworm AS worker
# The directory of the models belongs to the user before a volume takes its place.
RUN useradd --system --uid 10001 --home-dir /var/lib/baton --create-home baton \
    && install -d -o baton /var/lib/baton/models
COPY deploy/docker/start-worker /usr/local/bin/start-worker
ENV PATH=/opt/baton/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    BATON_HOME=/var/lib/baton HF_HOME=/var/lib/baton/models/hub
USER 10001
WORKDIR /var/lib/baton
VOLUME /var/lib/baton/models
# It hands its jobs to other workers and is gone within two seconds.
STOPSIGNAL SIGTERM
# Up to ten minutes for the first fetch of a model.
HEALTHCHECK --interval=15s --timeout=10s --start-period=600s CMD ["python", "-m", "cli.worker_health"]
CMD ["start-worker"]

FROM worker AS cuda
COPY --from=build-cuda /opt/baton /opt/baton

# The last one is what a build without --target makes.
FROM worker AS cpu
COPY --from=build-cpu /opt/baton /opt/baton
