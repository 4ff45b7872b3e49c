"""What runs here, as recorded when the image was built."""

import os


def current() -> dict[str, str]:
    """Name, version, git revision and build time (RFC 3339)."""
    return {
        "name": os.environ.get("SERVICE") or "unnamed",
        "version": os.environ.get("VERSION") or "unversioned",
        "revision": os.environ.get("REVISION") or "unknown",
        "built": os.environ.get("BUILT") or "unknown",
    }
