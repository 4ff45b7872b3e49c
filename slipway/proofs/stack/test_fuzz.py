"""schemathesis reads an API's own description and tries to break it, through the proxy."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.containers

# 414 and 431 come from the proxy, before the API sees what was sent.
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 414, 415, 422, 428, 429, 431]
"""


def test_nothing_that_is_sent_to_the_api_breaks_it_or_what_it_says_of_itself(production, tmp_path):
    url = f"https://localhost:{production.environment['HTTPS_PORT']}/api/openapi.json"
    with production.client() as client:
        if not client.get(url).json()["paths"]:
            return  # there is no operation that could break
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    authority = production.authority()
    (tmp_path / "authority.crt").write_text(authority)
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            url,
            "--tls-verify=authority.crt",
            "--max-examples=40",
            "--seed=1",
            "--request-timeout=10",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={"PATH": "/usr/bin:/bin", "NO_PROXY": "localhost", "HOME": str(tmp_path)},
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
