# The worker. Extend this image with the programs that your agents and builds need.
FROM python:3.11.14-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends git
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
# What git needs, without the package git and the Perl that it brings: 47 MB for commands such as
# send-email. An image that wants those installs it over this.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libcurl3-gnutls libpcre2-8-0 zlib1g \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && groupadd --non-unique --gid "$AGOG_GID" agog \
    && useradd --non-unique --uid "$AGOG_UID" --gid agog --create-home agog \
    && install -d -o agog -g agog -m 0700 /var/lib/agog
ENV PATH="/opt/venv/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 AGOG_HOME=/var/lib/agog
COPY --from=build /usr/bin/git /usr/bin/
COPY --from=build /usr/lib/git-core /usr/lib/git-core
COPY --from=build /usr/share/git-core /usr/share/git-core
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER agog
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=2 \
    CMD python -m adapters.health_probe "$AGOG_HOME"
CMD ["python", "worker.py"]
