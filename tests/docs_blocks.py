"""Runs the code blocks of a page of the documentation, in their order, as a reader would.

- A yaml or Python block whose first line is ``# path/to/file`` is saved under this name.
- Other Python blocks of a page are one program. Other yaml blocks are only parsed.
- Commands run in this process. Stages get the tiny preset and few episodes; ``dvc repro`` runs the stages that it would
  run. Installing and cloning are left out.
- A block after ``<!-- not run: reason -->`` is left out.
"""

import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamset.pipeline import cli
from dreamset.pipeline.commands.stages import STAGES

SMALL = ("preset=tiny", "evaluation.episodes=2", "evaluation.video_episodes=1", "finetuning.environment_steps=200")
WITH_OVERRIDES = (*STAGES, "adapt")
INSTALLATION = ("pip", "git", "source", "python3")
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>bash|python|yaml)\n(?P<code>.*?)^```", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A code block of a page; with a reason it is not run."""

    language: str
    code: str
    line: int
    reason: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text[: found.start("code")].count("\n")
        yield Block(found["language"], found["code"], line, found["reason"])


@dataclass
class Reader:
    """Follows a page in a folder: types its commands, saves its files and runs its programs."""

    folder: Path  # working folder of the commands
    patch: pytest.MonkeyPatch
    made: dict[Path, bytes] = field(default_factory=dict)  # resolved file -> its content when its stage ran last

    def follow(self, page: Path) -> dict[str, Any]:
        """Runs all blocks of a page and returns the names of its program."""
        names: dict[str, Any] = {"__name__": "page"}
        self._enter(self.folder)
        self.patch.setattr(urllib.request, "urlopen", _answer)
        for block in blocks(page):
            place = f"{page.name}, line {block.line}"
            file = re.match(r"# ([\w./-]+\.(?:py|yaml))", block.code)
            if block.reason is not None:
                continue
            if file is not None:
                self._save(file[1], block.code)
            elif block.language == "python":
                exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
            elif block.language == "yaml":
                assert yaml.safe_load(block.code) is not None, place
            else:
                for line in block.code.replace("\\\n", " ").splitlines():
                    self._type(shlex.split(line, comments=True), place)
        return names

    def _enter(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.patch.chdir(self.folder)
        self.patch.syspath_prepend(str(self.folder))

    def _save(self, name: str, code: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        for module in (path.stem, "policy"):  # of another page
            sys.modules.pop(module, None)

    def _type(self, words: Sequence[str], place: str) -> None:
        if not words or words[0] in INSTALLATION:
            return
        command, *arguments = words
        if command == "cd":
            self._enter(self.folder / arguments[0])
        elif command == "dreamset":
            self._run(arguments)
        elif (command, *arguments[:1]) == ("dvc", "repro"):
            self._reproduce(arguments[1] if len(arguments) > 1 else "compare")
        elif command == "python":
            subprocess.run([sys.executable, *arguments], check=True)
        else:
            raise AssertionError(
                f"{place}: no rule runs `{' '.join(words)}`; add one, or a reason not to run the block"
            )

    def _run(self, arguments: Sequence[str]) -> None:
        small = SMALL if arguments[0] in WITH_OVERRIDES else SMALL[:1] if arguments[0] in ("export", "show") else ()
        kept = [text for text in arguments if not (small and text.startswith("preset="))]
        cli.main([*kept, *small])  # exits with an error if it fails

    def _reproduce(self, target: str) -> None:
        """What ``dvc repro TARGET`` runs: the stages up to the target whose settings have changed."""
        params = yaml.safe_load(Path("params.yaml").read_text())
        params |= {"preset": "tiny", "overrides": [*(params["overrides"] or ()), *SMALL[1:]]}
        Path("tiny.yaml").write_text(yaml.safe_dump(params))
        cli.main(["resolve", "--params", "tiny.yaml"])
        for name, stage in {stage.name: command for command, stage in STAGES.items()}.items():
            for file in self._resolved(name):
                if self.made.get(file) != file.read_bytes():
                    cli.main([stage, "--resolved", str(file)])
                    self.made[file] = file.read_bytes()
            if name == target:
                return
        assert target == "compare", f"no stage is called {target}"
        cli.main(["compare"])

    def _resolved(self, stage: str) -> list[Path]:
        one = Path("resolved") / f"{stage}.yaml"
        return (
            [one.resolve()] if one.exists() else sorted(path.resolve() for path in one.with_suffix("").glob("*.yaml"))
        )


def _answer(request: urllib.request.Request) -> BytesIO:
    """What MLflow's server would answer: the prediction of the model in ``my_policy``, checked by its signature."""
    import json

    import mlflow
    import numpy as np

    assert request.full_url == "http://127.0.0.1:5001/invocations"
    assert isinstance(request.data, bytes)
    model = mlflow.pyfunc.load_model(os.fspath(Path("my_policy/mlflow")))
    types = {spec.name: spec.type for spec in model.metadata.get_input_schema().inputs}
    inputs: Mapping[str, Any] = json.loads(request.data)["inputs"]
    predictions = model.predict({name: np.asarray(value, types[name]) for name, value in inputs.items()})
    return BytesIO(json.dumps({"predictions": {name: value.tolist() for name, value in predictions.items()}}).encode())
