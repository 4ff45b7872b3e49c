# A node of a swarm: an engine of its own, in a privileged container. And the registry that the nodes pull from, and the
# resolver that ways out ask.
FROM slipway/debian:forky-slim
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
      containerd dnsmasq-base docker-cli docker-registry docker.io iproute2 iptables tini-static >/dev/null \
 && rm -rf /var/lib/apt/lists/* \
 && ln -sf tini-static /usr/bin/docker-init \
 && printf 'version: 0.1\nstorage: { filesystem: { rootdirectory: /var/lib/registry } }\nhttp: { addr: ":5000" }\n' >/etc/registry.yaml
# What docs/swarm.md says about a node's daemon.json; a registry without TLS is the tests' own.
RUN printf '{ "no-new-privileges": true, "insecure-registries": ["registry:5000"] }\n' >/etc/docker/daemon.json
VOLUME /var/lib/docker
CMD ["dockerd"]
