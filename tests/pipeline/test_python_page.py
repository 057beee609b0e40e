"""Runs the blocks of docs/python.md one after another on the outputs of the tiny pipeline."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreamset.pipeline.stages import learn_behavior, train_world_model


def test_examples_of_the_python_page_run(root: Path, configure: Callable[..., dict[str, Any]]) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    page = (root / "docs/python.md").read_text()
    blocks = list(re.finditer(r"```python\n(.*?)```", page, re.DOTALL))
    assert len(blocks) == 8
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        line = page[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], "docs/python.md", "exec"), names)  # tracebacks show lines of the page
    assert names["losses"]["small"].value.shape == (4, 8)
    assert names["action"].shape == (1, 1)
