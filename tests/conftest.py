"""Makes the kit's fixtures available, such as `production` and `image`, and skips tests if there is no engine."""

import pytest

from slipway.proofs import plugin


def pytest_configure(config: pytest.Config) -> None:
    plugin.register(config)
