"""Old names: modules that have moved can still be imported, with a warning, and users' ``_target_``s still work."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {  # module or class of release 0.1 -> its present name
    "dreamset.behaviors.actor": "dreamset.behaviors.actor_critic.actors",
    "dreamset.behaviors.actor_critic.ImaginationActorCritic": (
        "dreamset.behaviors.actor_critic.learner.ImaginationActorCritic"
    ),
    "dreamset.behaviors.actor_loss": "dreamset.behaviors.actor_critic.actor_loss",
    "dreamset.behaviors.critics": "dreamset.behaviors.actor_critic.critics",
    "dreamset.behaviors.gradients": "dreamset.behaviors.actor_critic.gradients",
    "dreamset.behaviors.normalizers": "dreamset.behaviors.actor_critic.normalizers",
    "dreamset.behaviors.penalty_weights": "dreamset.behaviors.rewards.penalty_weights",
    "dreamset.behaviors.policy": "dreamset.behaviors.controller",
    "dreamset.behaviors.returns": "dreamset.behaviors.actor_critic.returns",
    "dreamset.datasets.sources.d4rl_episodes": "dreamset.datasets.sources.d4rl.episodes",
    "dreamset.datasets.sources.d4rl_facts": "dreamset.datasets.sources.d4rl.facts",
    "dreamset.datasets.sources.d4rl_file": "dreamset.datasets.sources.d4rl.file",
    "dreamset.datasets.sources.dreamer_v3": "dreamset.datasets.sources.dreamer.replay",
    "dreamset.datasets.sources.lerobot_episodes": "dreamset.datasets.sources.lerobot.episodes",
    "dreamset.datasets.sources.lerobot_features": "dreamset.datasets.sources.lerobot.features",
    "dreamset.datasets.sources.lerobot_meta": "dreamset.datasets.sources.lerobot.meta",
    "dreamset.datasets.sources.lerobot_parquet": "dreamset.datasets.sources.lerobot.parquet",
    "dreamset.datasets.sources.lerobot_video": "dreamset.datasets.sources.lerobot.video",
    "dreamset.datasets.sources.mapped_columns": "dreamset.datasets.sources.mapped.columns",
    "dreamset.datasets.sources.minari_actions": "dreamset.datasets.sources.minari.actions",
    "dreamset.datasets.sources.minari_arrow": "dreamset.datasets.sources.minari.arrow",
    "dreamset.datasets.sources.minari_columns": "dreamset.datasets.sources.minari.columns",
    "dreamset.datasets.sources.minari_fetch": "dreamset.datasets.sources.minari.fetch",
    "dreamset.datasets.sources.minari_hdf5": "dreamset.datasets.sources.minari.hdf5",
    "dreamset.datasets.sources.minari_infos": "dreamset.datasets.sources.minari.infos",
    "dreamset.datasets.sources.minari_location": "dreamset.datasets.sources.minari.location",
    "dreamset.datasets.sources.minari_metadata": "dreamset.datasets.sources.minari.metadata",
    "dreamset.datasets.sources.minari_parts": "dreamset.datasets.sources.minari.parts",
    "dreamset.datasets.sources.minari_spaces": "dreamset.datasets.sources.minari.spaces",
    "dreamset.datasets.sources.minari_storage": "dreamset.datasets.sources.minari.storage",
    "dreamset.datasets.sources.vd4rl": "dreamset.datasets.sources.dreamer.vd4rl",
    "dreamset.datasets.sources.vd4rl_shards": "dreamset.datasets.sources.dreamer.vd4rl_shards",
    "dreamset.models.cells": "dreamset.models.recurrent.cells",
    "dreamset.models.divergences": "dreamset.models.recurrent.divergences",
    "dreamset.models.ensemble.LogProbabilitySpread": "dreamset.behaviors.rewards.spreads.LogProbabilitySpread",
    "dreamset.models.ensemble.MeanDisagreement": "dreamset.behaviors.rewards.spreads.MeanDisagreement",
    "dreamset.models.ensemble.MixtureSpread": "dreamset.behaviors.rewards.spreads.MixtureSpread",
    "dreamset.models.ensemble": "dreamset.models.recurrent.ensemble",
    "dreamset.models.latents": "dreamset.models.recurrent.latents",
    "dreamset.models.rssm": "dreamset.models.recurrent.rssm",
    "dreamset.models.world_model": "dreamset.models.recurrent.world_model",
    "dreamset.pipeline.card": "dreamset.pipeline.report.card",
    "dreamset.pipeline.checkpoint": "dreamset.pipeline.training.checkpoint",
    "dreamset.pipeline.collect": "dreamset.pipeline.stages.collect",
    "dreamset.pipeline.compare": "dreamset.pipeline.stages.compare",
    "dreamset.pipeline.compatibility": "dreamset.pipeline.artifacts.compatibility",
    "dreamset.pipeline.compose": "dreamset.pipeline.config.compose",
    "dreamset.pipeline.data_tools": "dreamset.pipeline.tools.data",
    "dreamset.pipeline.delivery": "dreamset.pipeline.tracking.delivery",
    "dreamset.pipeline.devices": "dreamset.pipeline.training.devices",
    "dreamset.pipeline.evaluate": "dreamset.pipeline.stages.evaluate",
    "dreamset.pipeline.export_mlflow": "dreamset.pipeline.export.mlflow_model",
    "dreamset.pipeline.export_readme": "dreamset.pipeline.export.readme",
    "dreamset.pipeline.exported_policy": "dreamset.pipeline.export.standalone.policy",
    "dreamset.pipeline.figures": "dreamset.pipeline.report.style",
    "dreamset.pipeline.finetune": "dreamset.pipeline.stages.finetune",
    "dreamset.pipeline.ingest": "dreamset.pipeline.stages.ingest",
    "dreamset.pipeline.learn_behavior": "dreamset.pipeline.stages.learn_behavior",
    "dreamset.pipeline.loop": "dreamset.pipeline.training.loop",
    "dreamset.pipeline.migrations": "dreamset.pipeline.artifacts.migrations",
    "dreamset.pipeline.model_exchange": "dreamset.pipeline.registry.exchange",
    "dreamset.pipeline.model_tools": "dreamset.pipeline.tools.models",
    "dreamset.pipeline.online": "dreamset.pipeline.training.online_data",
    "dreamset.pipeline.online_learning": "dreamset.pipeline.training.online_learning",
    "dreamset.pipeline.open_loop": "dreamset.pipeline.evaluation.open_loop",
    "dreamset.pipeline.optimizers": "dreamset.pipeline.training.optimizers",
    "dreamset.pipeline.parts": "dreamset.pipeline.training.parameter_groups",
    "dreamset.pipeline.playing": "dreamset.pipeline.evaluation.playing",
    "dreamset.pipeline.policy_service": "dreamset.pipeline.export.standalone.service",
    "dreamset.pipeline.pretrained": "dreamset.pipeline.artifacts.pretrained",
    "dreamset.pipeline.ranking": "dreamset.pipeline.registry.ranking",
    "dreamset.pipeline.registration": "dreamset.pipeline.registry.registration",
    "dreamset.pipeline.resolve": "dreamset.pipeline.stages.resolve",
    "dreamset.pipeline.retrieval": "dreamset.pipeline.registry.retrieval",
    "dreamset.pipeline.runtime": "dreamset.pipeline.config.instantiate",
    "dreamset.pipeline.saved_policy": "dreamset.pipeline.artifacts.saved_policy",
    "dreamset.pipeline.statistics": "dreamset.pipeline.evaluation.statistics",
    "dreamset.pipeline.tables": "dreamset.pipeline.report.tables",
    "dreamset.pipeline.train_world_model": "dreamset.pipeline.stages.train_world_model",
    "dreamset.pipeline.trainers": "dreamset.pipeline.training.world_model_trainer",
    "dreamset.pipeline.validation": "dreamset.pipeline.evaluation.validation",
    "dreamset.pipeline.videos": "dreamset.pipeline.report.videos",
}


def current_name(name: str) -> str:
    """The present name of a module or of its member: ``name`` itself unless it has moved."""
    moved = [old for old in MOVED if name == old or name.startswith(f"{old}.")]
    if not moved:
        return name
    old = max(moved, key=len)
    return MOVED[old] + name.removeprefix(old)


class MovedModules(MetaPathFinder, Loader):
    """Finds modules under their old names, after all other finders."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """A spec for a module that has moved."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its present name."""
        warnings.warn(f"{spec.name} is now {MOVED[spec.name]}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(MOVED[spec.name])
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restores the module's own spec, which the import system replaced. The module has run already."""
        assert module.__spec__ is not None
        module.__spec__ = self._specs.pop(module.__spec__.name)


def install() -> None:
    """Adds the finder, once per process."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
