"""What the kit's proofs share is here as well: `production`, `image` and what is skipped where there is no engine."""

import pytest

from slipway.proofs import plugin


def pytest_configure(config: pytest.Config) -> None:
    plugin.register(config)
