import pytest

from slipway.proofs import plugin


def pytest_configure(config: pytest.Config) -> None:
    plugin.register(config)
