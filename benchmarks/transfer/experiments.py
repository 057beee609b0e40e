"""The experiments of the benchmark, as listed in ``transfer.yaml``."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from dreamset.core.errors import UserError
from dreamset.pipeline.files import digest

BENCHMARK = Path(__file__).parent / "transfer.yaml"

Overrides = Sequence[str]


@dataclass(frozen=True, slots=True)
class Start:
    """The initialisation of a world model and the parts that are trained."""

    reuses: bool  # whether it starts from a world model of the source
    overrides: Overrides


@dataclass(frozen=True, slots=True)
class Experiment:
    """A world model trained on a pair's new data, and a behaviour learned with it."""

    pair: str
    start: str
    objective: str  # of the world model and of its pretraining
    share: int  # percent of the new training episodes
    updates: int  # gradient steps on them

    @property
    def name(self) -> str:
        """Unique in its pair."""
        return f"{self.start}-{self.objective}-{self.share}-{self.updates}"

    def within(self, where: Mapping[str, Sequence[Any]]) -> bool:
        """Whether every field in ``where`` has one of its values."""
        own = asdict(self)
        return all(own[name] in values for name, values in where.items())


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of the report: scores of a pair along one field of its experiments."""

    pair: str
    objective: str
    axis: str
    where: Mapping[str, Sequence[Any]]

    def of(self, experiments: Sequence[Experiment]) -> list[Experiment]:
        """The experiments of the curve."""
        own: dict[str, Sequence[Any]] = {"pair": [self.pair], "objective": [self.objective], **self.where}
        return [experiment for experiment in experiments if experiment.within(own)]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The contents of the yaml file."""

    common: Overrides
    source: Overrides
    pairs: Mapping[str, Overrides]
    baselines: Sequence[str]
    starts: Mapping[str, Start]
    shares: Mapping[int, Overrides]
    experiments: Sequence[Experiment]
    curves: Sequence[Curve]
    objectives: Sequence[Mapping[str, Sequence[Any]]]

    @classmethod
    def read(cls, path: Path = BENCHMARK) -> "Benchmark":
        """The benchmark in a yaml file.

        Raises:
            UserError: if a key is missing or unknown, or a name is not defined in the file.
        """
        value = yaml.safe_load(path.read_text())
        try:
            value["starts"] = {name: Start(**entry) for name, entry in value["starts"].items()}
            value["experiments"] = list(dict.fromkeys(e for entry in value["experiments"] for e in _combined(entry)))
            value["curves"] = [Curve(**entry) for entry in value["curves"]]
            benchmark = cls(**value)
        except (TypeError, KeyError) as error:
            raise UserError(f"{path} has a missing or unknown key ({error}); fix it") from None
        for experiment in benchmark.experiments:
            benchmark.check(experiment, path)
        return benchmark

    def check(self, experiment: Experiment, path: Path) -> None:
        """Raises a ``UserError`` if the pair, start or share of an experiment is not defined."""
        known: dict[str, Container[Any]] = {"pair": self.pairs, "start": self.starts, "share": self.shares}
        wrong = [name for name, values in known.items() if getattr(experiment, name) not in values]
        if wrong:
            raise UserError(
                f"{path}: the {' and '.join(wrong)} of {experiment} is not defined in this file; fix the entry"
            )

    def on_source(self, objective: str) -> list[str]:
        """Overrides of the reused world model."""
        return [*self.common, *self.source, f"objective={objective}"]

    def on_pair(self, pair: str) -> list[str]:
        """Common overrides of all experiments of a pair."""
        return [*self.common, *self.pairs[pair]]

    def overrides(self, experiment: Experiment) -> list[str]:
        """Overrides of an experiment, without the folder of the reused world model."""
        return [
            *self.on_pair(experiment.pair),
            f"objective={experiment.objective}",
            f"world_model_training.updates={experiment.updates}",
            *self.shares[experiment.share],
            *self.starts[experiment.start].overrides,
        ]

    def settings_digest(self, experiment: Experiment) -> str:
        """A digest of everything in the yaml file that the experiment depends on."""
        before = self.on_source(experiment.objective) if self.starts[experiment.start].reuses else []
        return digest(yaml.safe_dump([self.overrides(experiment), before]))


def _combined(entry: Mapping[str, Any]) -> Iterator[Experiment]:
    names = [field.name for field in fields(Experiment)]
    if entry.keys() != set(names):
        raise TypeError(f"an experiment has the keys {', '.join(names)}, not {', '.join(entry)}")
    lists = [entry[name] if isinstance(entry[name], list) else [entry[name]] for name in names]
    for values in product(*lists):
        yield Experiment(*values)
