# Two images from one file: `api` is small and has no torch (it also runs `warmline-sqs`), `worker` scores (and runs
# Flower).
#   docker build --target api -t warmline-api .
#   docker build --target worker -t warmline-worker .
# For CUDA workers: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130

FROM python:3.12-slim-bookworm AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /app
RUN useradd --create-home --uid 10001 warmline
COPY pyproject.toml constraints.txt README.md ./
COPY config config
COPY warmline warmline
COPY workers workers
COPY api api
COPY pollers pollers
COPY models/mini models/mini

FROM base AS api
RUN pip install --constraint constraints.txt --editable ".[api]"
USER warmline
EXPOSE 8000
CMD ["warmline-api"]

FROM base AS worker
# torch's threads wait without spinning: on cores that are shared, spinning makes every job slower.
ENV OMP_WAIT_POLICY=PASSIVE
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" "${TORCH}" \
    && pip install --constraint constraints.txt --editable ".[worker,export]" flower==2.2.0
USER warmline
CMD ["warmline-worker"]
