# The worker. Extend this image with the programs that your agents and builds need.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /opt/venv
COPY . .
# Editable: settings.py reads the .env beside it, and that must be /app/.env. The import writes the
# bytecode of what the worker and the commands use, and of no more: a container can write none.
RUN /opt/venv/bin/pip install --no-cache-dir --no-compile -c constraints.txt -e . \
    && /opt/venv/bin/pip uninstall --yes pip setuptools \
    && rm -rf ./*.egg-info \
    && /opt/venv/bin/python -c "import starter, worker"

FROM python:3.11.14-slim-bookworm
ARG AGOG_UID=1000
ARG AGOG_GID=1000
RUN apt-get update \
    && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && groupadd --non-unique --gid "$AGOG_GID" agog \
    && useradd --non-unique --uid "$AGOG_UID" --gid agog --create-home agog \
    && install -d -o agog -g agog -m 0700 /var/lib/agog
ENV PATH="/opt/venv/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 AGOG_HOME=/var/lib/agog
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER agog
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=2 \
    CMD python -m adapters.health_probe "$AGOG_HOME"
CMD ["python", "worker.py"]
