"""`make proxy-reload`: the proxy loads its edited configuration, or keeps the current one and says why."""

from slipway.commands.shared import caddy
from slipway.commands.shared.stop import Stop


def proxy_reload() -> None:
    if problem := caddy.reload():
        raise Stop(f"nothing has changed: {problem}")
    print("The proxy serves with docker/proxy/caddy/Caddyfile as it is now.")
