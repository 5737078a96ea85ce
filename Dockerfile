# Two images from one file. `api` has no torch; it also runs warmline-sqs, Flower and the command line.
# `worker` scores. docs/docker.md has the sizes and how they were built.
#
#   docker build --target api -t warmline-api .
#   docker build --target worker -t warmline-worker .
#   docker build --target worker -t warmline-worker:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .

# Debian's own Python 3.11 is the one that the test suite runs on.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin warmline \
    # A new volume takes its owner from the directory that it is mounted on.
    && install --directory --owner warmline --group warmline --mode 0700 /models /scratch /state
ENV PATH=/app/bin:/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WARMLINE_MODELS_DIR=/models \
    WARMLINE_WORKER_SCRATCH_DIR=/scratch
WORKDIR /app
STOPSIGNAL SIGTERM

# Dependencies lie in a layer of their own, /opt/venv: a new release of Warmline changes only /app, a few MB.
FROM base AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv \
    && python3 -m venv --without-pip /opt/venv && python3 -m venv /opt/pip \
    # The virtual environment finds the code in /app.
    && echo /app > "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/warmline.pth"
WORKDIR /build
COPY pyproject.toml constraints.txt ./
COPY deploy/requirements_of.py deploy/slim_venv.py deploy/

FROM builder AS api-venv
RUN python3 deploy/requirements_of.py api tracing pictures flower > requirements.txt \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt \
    && /opt/venv/bin/python deploy/slim_venv.py

FROM builder AS worker-venv
# torch first and alone: its build is chosen here, and nothing after it may change it.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --constraint constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} "${TORCH}"
# `diarise` is for options.split_speakers alone: EXTRAS="worker export tracing diarise". FunASR is the reference that
# Warmline's own engines are measured with; with what it needs it would make the image 0.6 GB larger: WITHOUT="".
ARG EXTRAS="worker export tracing"
ARG WITHOUT="funasr"
RUN python3 deploy/requirements_of.py ${EXTRAS} --without ${WITHOUT} > requirements.txt \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt \
    && /opt/venv/bin/python deploy/slim_venv.py

FROM builder AS code
COPY README.md LICENSE ./
COPY config config
COPY warmline warmline
COPY workers workers
COPY api api
COPY pollers pollers
COPY models/mini models/mini
RUN /opt/pip/bin/pip wheel --no-deps --wheel-dir /wheels . \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --no-deps --target /app /wheels/*.whl

FROM base AS api
COPY --from=api-venv /opt/venv /opt/venv
COPY --from=code /app /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --start-period=30s --interval=10s --timeout=5s CMD ["python", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/live'); exit(c.getresponse().status != 200)"]
CMD ["warmline-api"]
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="Warmline, the API" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"

FROM base AS worker
# torch's threads wait without spinning: on cores that are shared, spinning makes every job slower.
ENV OMP_WAIT_POLICY=PASSIVE
COPY --from=worker-venv /opt/venv /opt/venv
COPY --from=code /app /app
USER 10001:10001
EXPOSE 9464
HEALTHCHECK --start-period=10m --interval=15s --timeout=10s CMD ["python", "-m", "workers.alive"]
CMD ["warmline-worker"]
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="Warmline, the worker" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
