# syntax=docker/dockerfile:1
# A worker, on the CPU or on a CUDA device. Build from the repository's root:
#   docker build -f deploy/docker/worker.Dockerfile -t baton-worker .
#   docker build -f deploy/docker/worker.Dockerfile -t baton-worker:cuda --build-arg TORCH_INDEX= .
FROM python:3.11-slim AS build
# Where torch's CPU build comes from; empty: PyPI's, which on Linux is a CUDA build with all it needs.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv /opt/baton
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY api api
COPY cli cli
COPY shared shared
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/baton/bin/pip install ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} \
    --constraint constraints.txt '.[worker]'

FROM python:3.11-slim
# The directory of the models belongs to the user before a volume takes its place.
RUN useradd --system --uid 10001 --home-dir /var/lib/baton --create-home baton \
    && install -d -o baton /var/lib/baton/models
COPY --from=build /opt/baton /opt/baton
COPY deploy/docker/start-worker /usr/local/bin/start-worker
ENV PATH=/opt/baton/bin:$PATH PYTHONUNBUFFERED=1 BATON_HOME=/var/lib/baton HF_HOME=/var/lib/baton/models/hub
USER 10001
WORKDIR /var/lib/baton
VOLUME /var/lib/baton/models
# Up to ten minutes for the first fetch of a model.
HEALTHCHECK --interval=15s --timeout=10s --start-period=600s CMD ["python", "-m", "cli.worker_health"]
CMD ["start-worker"]
