# The image of a program that runs nodes: `steading`, `steading-inspector`, the C library, nothing else.
# There is no shell and no package manager in it, it writes nothing, and it runs as nobody in particular.
#
#   docker build -t steading .
#
# For objects of your own, copy this file into the workspace of a program made of `steading_node::App`, and
# name its package and its binary. In the image it is called `steading`, and takes the same commands:
#
#   docker build -t shop --build-arg PACKAGES="-p shop-node" --build-arg PROGRAM=shop-node .
#
# Where no base image can be pulled, `scripts/image` makes the stage `local` from programs that are built already.

# What every image here is, before there are files in it.
FROM scratch AS frame
# The number, not the name: Kubernetes can tell only from a number that it is not root.
USER 65532:65532
# gRPC for nodes and clients; HTTP for calls, probes and metrics; the Inspector.
EXPOSE 7400 7480 7490
# As process 1 it passes signals and the exit code on and reaps orphans, if STEADING_SUPERVISE is true; and
# without it, it is itself the node that the signals reach.
ENTRYPOINT ["/steading"]
CMD ["node"]

FROM frame AS local
COPY . /

FROM rust:1.95-bookworm AS built
RUN apt-get update \
 && apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ARG PROFILE=release
ARG PACKAGES="-p steading-node -p steading-inspector"
ARG PROGRAM=steading
RUN cargo build --locked --profile "$PROFILE" $PACKAGES \
 && folder=target/$(test "$PROFILE" = dev && echo debug || echo "$PROFILE") \
 && scripts/image-files /files "$folder/$PROGRAM=steading" $(find "$folder" -maxdepth 1 -name steading-inspector)

FROM frame
COPY --from=built /files /
