# syntax=docker/dockerfile:1
# The API, without torch or a model. Build from the repository root:
#   docker build -f deploy/docker/api.Dockerfile -t baton-api .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/baton
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY api api
COPY cli cli
COPY shared shared
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/baton/bin/python install --constraint constraints.txt '.[api]'

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/baton --create-home baton
COPY --from=build /opt/baton /opt/baton
ENV PATH=/opt/baton/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUTF8=1 BATON_HOST=0.0.0.0 BATON_PORT=8000
USER 10001
WORKDIR /var/lib/baton
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/health/live'); exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "api.main"]
