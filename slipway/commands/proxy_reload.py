"""`make proxy-reload`: the proxy serves what is on the disk, without a gap, or what it served, and says why."""

from slipway.commands.shared import proxy
from slipway.commands.shared.stop import Stop


def proxy_reload() -> None:
    if proxy.outdated():
        print("Building the proxy …", flush=True)
        if problem := proxy.build():
            raise Stop(f"nothing has changed: {problem}")
    if problem := proxy.problem() or proxy.update():
        raise Stop(f"nothing has changed: {problem}")
    print(f"The proxy serves with {proxy.kind().config} as it is now.")
