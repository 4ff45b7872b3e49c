"""`make push`: this commit's images, in the registry that IMAGE_PREFIX names. Standard library only."""

import json
import os
from typing import Any

from slipway.commands import deploy
from slipway.commands.deploy import compose, step
from slipway.commands.shared import dotenv, git, lock, registry
from slipway.commands.shared.compose import build_problem, docker
from slipway.commands.shared.stop import Stop

PAGES = "docker/proxy/pages"


def push() -> None:
    """Builds and pushes the image of each service, and the proxy's with its configuration in it. One that the registry
    has stays as it is: no tag moves."""
    if not (prefix := dotenv.get("IMAGE_PREFIX")):
        raise Stop("IMAGE_PREFIX is not set: name the registry in .env, such as IMAGE_PREFIX=registry.example/team/")
    git.refuse_unless_clean()
    os.environ.setdefault("SITE_ADDRESS", "localhost")  # compose asks for it, and no image contains it
    with lock.production():
        deploy.check()
        release = deploy.chosen("")
        print(f"push {release} to {prefix}", flush=True)
        defined = services(release)
        images = {name: defined[name]["image"] for name in deploy.builders()}
        images["proxy"] = f"{defined['proxy']['image'].rpartition(':')[0]}:{release}"
        absent = {name: image for name, image in images.items() if not there(image)}
        if absent:
            with step("images"):
                build(release, absent, defined["proxy"]["build"])
        for image in absent.values():
            with step(image.rpartition("/")[2].partition(":")[0]):
                registry.push(image)
        noted = registry.noted()
    print("\n".join(f"  {image} {noted[image]}" for image in images.values()))
    print(f"{release} is in the registry. To deploy it, on a server: make deploy TAG={release}")


def services(release: str) -> dict[str, Any]:
    """What compose knows of each service; a script is in a profile of its own."""
    said = compose("--profile", "*", "config", "--format", "json", tag=release).stdout
    found: dict[str, Any] = json.loads(said)["services"]
    return found


def there(image: str) -> bool:
    """Whether the registry has it. Its digest is then noted."""
    registry.refuse_if_moved(image)
    if digest := registry.current(image):
        registry.note(image, digest)
    return bool(digest)


def build(release: str, images: dict[str, str], proxy: dict[str, Any]) -> None:
    if names := [name for name in images if name != "proxy"]:
        deploy.build(release, *names)
    if "proxy" not in images:
        return
    contexts = {**proxy["additional_contexts"], "pages": PAGES}
    words = [f"--build-context={name}={value}" for name, value in contexts.items()]
    words += [f"--build-arg={name}={value}" for name, value in proxy["args"].items()]
    run = docker("build", "--progress=plain", "--target=complete", *words, f"--tag={images['proxy']}", proxy["context"])
    if run.returncode:
        raise Stop(f"the proxy can't be built, and nothing was pushed: {build_problem(run.stdout + run.stderr)}")
