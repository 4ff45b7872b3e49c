"""The operational routes: what the proxy, monitoring and operators ask a service. Named once, here."""

LIVE, READY = "/health/live", "/health/ready"
METRICS, STATUS, VERSION = "/metrics", "/status", "/version"

# Asked again and again: logged only where they fail, and no part of what people do.
POLLED = {LIVE, READY, METRICS, STATUS}

# Asked from inside the network, so that they lie beside a service's prefix and not below it.
INTERNAL = ("/health", METRICS)


def is_polled(path: str) -> bool:
    """With its query or without."""
    return path.partition("?")[0] in POLLED


def is_internal(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in INTERNAL)
