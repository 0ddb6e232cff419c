"""What tests of files share."""

import pickle

import pytest


@pytest.fixture
def write(tmp_path):
    """(content, name) -> the path of a pickle of it."""

    def of(content, name="mine.pkl"):
        (path := tmp_path / name).write_bytes(pickle.dumps(content))
        return str(path)

    return of
