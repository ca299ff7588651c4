# The server and the command line in an image of their own; deploy/README.md tells how to build and run it.
ARG DEBIAN=debian:12-slim

FROM ${DEBIAN} AS build
WORKDIR /src
# What is downloaded hangs on the scripts alone, so that a change of the code does not download again.
COPY scripts scripts
# Debian 12 gives packages security fixes and no new versions, here and below.
# hadolint ignore=DL3008
RUN scripts/setup --server && \
    apt-get install -y --no-install-recommends chrpath && \
    rm -rf /var/lib/apt/lists/*
COPY . .
# The compiler cache, where common.sh has it, outlives the build if the builder can keep it.
RUN --mount=type=cache,target=/root/.cache/secateur/ccache \
    bash -c '. scripts/lib/common.sh && \
      cmake --preset release -DSECATEUR_TESTS=OFF && \
      cmake --build --preset release --target secateurd secateur_cli secateur_admin_program'
RUN deploy/image_files build/release/bin /image

FROM ${DEBIAN}
# hadolint ignore=DL3008
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      ca-certificates libabsl20220623 libcivetweb1 libcurl4 libgrpc++1.51 libprometheus-cpp-core1.0 \
      libprometheus-cpp-pull1.0 libprotobuf32 libspdlog1.10 libssl3 libstdc++6 zlib1g && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /image /usr/local
# Says here, and not at a user's, that a library is missing.
RUN secateurd --version && secateur --version && secateur admin --version
USER 10001:10001
# The service, and /metrics with the probes.
EXPOSE 8470 8471
ENTRYPOINT ["secateurd"]
