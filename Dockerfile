# tortie in a container: Node and the programs that it runs, ip and nft; nothing is compiled.
#
#   docker build -t tortie .
#   docker run --cap-add NET_ADMIN --cap-add NET_RAW --device /dev/net/tun \
#     --sysctl net.ipv4.ip_forward=1 --sysctl net.ipv4.conf.default.rp_filter=2 \
#     -v tortie:/var/lib/tortie tortie node run --name node1
#
# /proc/sys is read-only in a container, so the two sysctls that the agent would set are given by whoever starts it.
FROM node:22-bookworm-slim AS build
WORKDIR /tortie
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json rolldown.config.ts ./
COPY src src
RUN npm run build && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:22-bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends iproute2 nftables iputils-ping \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /tortie
COPY --from=build /tortie/package.json ./
COPY --from=build /tortie/node_modules node_modules
COPY --from=build /tortie/dist dist
COPY examples examples
RUN ln -s /tortie/dist/cli/main.js /usr/local/bin/tortie
VOLUME /var/lib/tortie
ENTRYPOINT ["tortie"]
CMD ["--help"]
