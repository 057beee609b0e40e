import os

import pytest

from dreamset.core.variables import environment_variable


@pytest.mark.parametrize("before", [None, "old"])
def test_environment_variable_is_restored_even_after_an_exception(monkeypatch, before):
    monkeypatch.delenv("DREAMSET_TEST", raising=False)
    if before is not None:
        monkeypatch.setenv("DREAMSET_TEST", before)
    with pytest.raises(RuntimeError), environment_variable("DREAMSET_TEST", "new"):
        assert os.environ["DREAMSET_TEST"] == "new"
        raise RuntimeError
    assert os.environ.get("DREAMSET_TEST") == before
