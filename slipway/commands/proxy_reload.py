"""`make proxy-reload`: the proxy loads its edited configuration, or keeps the current one and says why."""

from slipway.commands.shared import proxy
from slipway.commands.shared.stop import Stop


def proxy_reload() -> None:
    if problem := proxy.reload():
        raise Stop(f"nothing has changed: {problem}")
    print(f"The proxy serves with {proxy.kind().config} as it is now.")
