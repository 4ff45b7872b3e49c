"""What `make debug` changes of `make dev`: one service runs under an editor's debugger. Standard library only."""

import json

from slipway.commands.shared import dotenv, inventory
from slipway.commands.shared.inventory import Service

MODULE = "devserver.editor"


def port() -> int:
    """Raises Stop."""
    return inventory.port(dotenv.get("DEBUG_PORT", "5678"), "DEBUG_PORT")


def settings() -> dict[str, str]:
    """Settings under which no timeout ends a request that has stopped at a breakpoint."""
    return {"DEBUG_PORT": str(port()), "REQUEST_TIMEOUT": "3600", "DATABASE_STATEMENT_TIMEOUT": "600"}


def overlay(service: Service) -> str:
    """A compose file. Any client that reaches the port can run any code, so it is published on the loopback only."""
    changed = {
        "command": ["python", "-m", MODULE],
        "environment": settings(),
        "ports": [f"127.0.0.1:{port()}:{port()}"],
    }
    return json.dumps({"services": {service.name: changed}})
