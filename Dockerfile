# ralio-relay, what it needs of glibc, certificates, and nothing else: no shell, no package manager. See "Deploying" in README.md.
#
#   docker build -t ralio-relay --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse --short=12 HEAD) .
#
# glibc, not musl: it is what all figures and tests in this repository are about, and musl's allocator is slow with threads.
# Not linked statically, because glibc loads parts of itself when it looks up names. So the image is empty but for the
# libraries that the binary names; the package lists of Debian come along for whoever scans it.
#
# Any builder will do (docker, buildah, podman, kaniko). With buildah and podman add --format docker: the OCI format
# knows no HEALTHCHECK. `tests/image` builds and runs it. For an `exec` sink that needs more than a binary:
#   FROM debian:bookworm-slim
#   COPY --from=ralio-relay /usr/bin/ralio-relay /usr/bin/

# rust-version of Cargo.toml
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS build
# jemalloc's build wants it. Any version will do.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# release, or dev to try something out in less than the five minutes that the link takes
ARG PROFILE=release

# The dependencies, in a layer that lasts until Cargo.toml or Cargo.lock changes. aws-lc, SQLite and jemalloc are C: gcc is in the image.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir -p src benches/relay \
    && echo 'fn main() {}' >build.rs && cp build.rs src/main.rs && cp build.rs benches/relay/main.rs && touch src/lib.rs \
    && cargo build --locked --profile "$PROFILE" \
    && rm -r src build.rs

COPY build.rs ./
COPY src src
# There is no .git in here to ask.
ARG REVISION
# The files may be older than what was just built of their placeholders.
RUN touch build.rs src/main.rs src/lib.rs \
    && RALIO_RELAY_COMMIT="$REVISION" cargo build --locked --profile "$PROFILE" --bin ralio-relay

WORKDIR /rootfs
COPY LICENSE usr/share/doc/ralio-relay/copyright
RUN mkdir -p usr/bin etc/ssl/certs var/lib/dpkg/status.d \
    && strip -o usr/bin/ralio-relay /src/target/*/ralio-relay \
    && for word in $(ldd usr/bin/ralio-relay); do case "$word" in /*) cp --parents --dereference "$word" . ;; esac; done \
    && cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ \
    && cp /etc/os-release etc/ \
    && echo 'hosts: files dns' >etc/nsswitch.conf \
    && echo 'ralio-relay:x:65532:65532::/var/lib/ralio-relay:/sbin/nologin' >etc/passwd \
    && echo 'ralio-relay:x:65532:' >etc/group \
    && for package in libc6 libgcc-s1 ca-certificates; do \
         dpkg-query --status "$package" >"var/lib/dpkg/status.d/$package" \
         && cp --parents "/usr/share/doc/$package/copyright" . || exit 1; \
       done \
    && mkdir /state && mkdir -m 700 /state/ralio-relay

FROM scratch
COPY --from=build /rootfs /
# A new volume mounted here takes its owner and mode.
COPY --from=build --chown=65532:65532 /state /var/lib

ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="ralio-relay" \
      org.opencontainers.image.description="Receives Ralio webhooks, stores them durably, and hands them on" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"

# A number, so that Kubernetes can see that it is not root's.
USER 65532:65532
# The inbox, and the only directory that it writes to: mount a volume here, the rest may be read-only. There is no /tmp:
# what SQLite puts aside goes here too.
WORKDIR /var/lib/ralio-relay
EXPOSE 8443
# Before it is ready it writes back what the last process left in the write-ahead log: that may take a while.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 CMD ["/usr/bin/ralio-relay", "health"]
# Reads /etc/ralio-relay/relay.toml. SIGTERM drains for server.drain_timeout: give it more time than the usual 10 seconds.
ENTRYPOINT ["/usr/bin/ralio-relay"]
CMD ["serve"]
