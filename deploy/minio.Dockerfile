# MinIO from its pinned source, the version that the conformance suite runs against; not root.

FROM golang:1.26.6-bookworm AS build
RUN CGO_ENABLED=0 GOBIN=/out go install -trimpath -ldflags="-s -w" \
    github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

FROM debian:12.12-slim
COPY --from=build /out/minio /usr/local/bin/minio
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin minio \
    && install --directory --owner minio --group minio --mode 0700 /data
# Where it looks for certificates; the account has no home.
ENV HOME=/tmp
USER 10001:10001
EXPOSE 9000
CMD ["minio", "server", "/data", "--address", ":9000"]
