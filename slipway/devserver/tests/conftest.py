import logging

import pytest

from devserver import layer


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """The repository whose requests are recorded."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="package", autouse=True)
def _listening(root):
    """As in a process of the development server, once."""
    handlers, level = logging.root.handlers[:], logging.root.level
    layer.listen(root)
    logging.root.setLevel("INFO")
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
