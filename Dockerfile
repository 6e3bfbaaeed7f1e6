# One image for every service; docker-compose.yml says which module a container runs.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv --without-pip /opt/outreach
# Before the code, so that a change of the code does not install them anew.
COPY requirements/ requirements/
RUN pip --python /opt/outreach/bin/python install --require-hashes -r requirements/runtime.txt
# The only build tool, by its hash in the lock of the developers' environment.
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements/dev.txt > build.txt \
    && pip install --require-hashes -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY outreach/ outreach/
COPY services/ services/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip --python /opt/outreach/bin/python install --no-deps --no-index wheels/*.whl

FROM ${PYTHON_IMAGE}
# Nothing that installs or builds stays in the image.
RUN pip uninstall --yes --root-user-action=ignore setuptools wheel pip \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin outreach \
    && install -d -o outreach -g outreach -m 0700 /var/lib/outreach/journal /var/lib/outreach/sandbox
COPY --from=build /opt/outreach /opt/outreach
ENV PATH=/opt/outreach/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/outreach
# Campaign: public and internal gRPC. Export: gRPC. Senders: webhooks. Sandbox: provider double.
EXPOSE 50051 50052 50053 8081 8082 8090
CMD ["outreach", "--help"]
