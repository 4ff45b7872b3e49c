"""The operational routes, which the proxy, monitoring and operators request. Named once, here."""

LIVE, READY = "/health/live", "/health/ready"
METRICS, STATUS, VERSION = "/metrics", "/status", "/version"

# Requested again and again: logged only if they fail, and left out of the traffic figures.
POLLED = {LIVE, READY, METRICS, STATUS}

# Requested from inside the network, so they lie beside a service's prefix and not below it.
INTERNAL = ("/health", METRICS)


def is_polled(path: str) -> bool:
    """Whether the path, with or without its query, is polled."""
    return path.partition("?")[0] in POLLED


def is_internal(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in INTERNAL)
