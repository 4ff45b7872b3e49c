"""`make proxy-reload`: the proxy takes up its edited configuration, or keeps its own and says why."""

from slipway.commands.shared import caddy
from slipway.commands.shared.stop import Stop


def proxy_reload() -> None:
    if problem := caddy.reload():
        raise Stop(f"nothing has changed: {problem}")
    print("The proxy serves with docker/proxy/caddy/Caddyfile as it is now.")
