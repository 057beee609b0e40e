"""Runs the blocks of docs/python.md, and the README's example, on the outputs of the tiny pipeline."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamset.pipeline.stages import learn_behavior, train_world_model


def test_examples_of_the_python_page_run(root: Path, configure: Callable[..., dict[str, Any]]) -> None:
    train_world_model.run(configure("train_world_model"))
    learn_behavior.run(configure("learn_behavior"))
    page = (root / "docs/python.md").read_text()
    blocks = list(re.finditer(r"```python\n(.*?)```", page, re.DOTALL))
    assert len(blocks) == 9
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        line = page[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], "docs/python.md", "exec"), names)  # tracebacks show lines of the page
    assert names["losses"]["small"].value.shape == (4, 8)
    assert names["action"].shape == (1, 1)


def test_python_example_of_the_readme_predicts_the_returns_of_its_windows(
    root: Path, configure: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    train_world_model.run(configure("train_world_model"))
    capsys.readouterr()
    (code,) = re.findall(
        r"```python\n(import torch\n\nimport dreamset\n\nstore.*?)```", (root / "README.md").read_text(), re.S
    )
    names: dict[str, Any] = {}
    exec(compile(code.replace("pendulum_pixels", "pendulum_state"), "README.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["dreamed", "real"]
    assert names["dream"].features.shape[:2] == (16, 4)
    real = names["batch"].reward[:, 5:].sum(1)
    assert lines[1].removeprefix("real").strip() == str(real)
