"""``dreamset dream``: a world model's dream of an episode or of a policy, drawn beside reality, with a table."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dreamset.core.capabilities import Dynamics, RewardModel, require
from dreamset.core.errors import UserError
from dreamset.core.files import user_path
from dreamset.datasets import Store
from dreamset.pipeline.artifacts.saved_models import load_world_model, require_dataset
from dreamset.pipeline.config.compose import Composition
from dreamset.pipeline.config.settings import Validation
from dreamset.pipeline.evaluation.decoding import OWN, PROBE, Decoding, own_decoder, probe_decoder
from dreamset.pipeline.evaluation.dream_errors import Dream, compare
from dreamset.pipeline.files import require_writable, write_csv
from dreamset.pipeline.report.dream_video import FORMATS
from dreamset.pipeline.stages import manual
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages.settings import Evaluate, LearnBehavior
from dreamset.pipeline.tools.dream_scenes import Options, Setting, scene_of
from dreamset.pipeline.training.devices import choose_device


def run(composition: Composition, options: Options) -> list[str]:
    """Writes the drawing and the table, and returns lines for the terminal.

    Raises:
        UserError: if an option is wrong, a model or the store is missing, or they do not belong together.
    """
    draw = _format(options.output)
    setting = _load(composition, options)
    scene = scene_of(setting, options)
    decoding = _decoding(setting)
    dream = compare(setting.model, decoding, scene.trajectory, scene.reality, context=setting.context)
    given = options.output and user_path(options.output)
    output = given or setting.runs / "dream" / f"{setting.name}-{scene.name}.mp4"
    require_writable(output.absolute().parent)
    head = [f"{setting.described.lineage['dataset']}: {setting.name}, {scene.title}", decoding.name]
    draw(dream, head, output)
    table = output.with_suffix(".csv")
    write_csv(table, dream.table())
    return [
        *summary(dream, setting.model),
        f"{output}: the dream; {table}: its figures, step by step ({decoding.name})",
    ]


def _format(output: Path | None) -> Callable[[Dream, Sequence[str], Path], None]:
    suffix = ".mp4" if output is None else output.suffix
    if suffix not in FORMATS:
        raise UserError(f"--output is {output}; allowed: a file that ends in {', '.join(FORMATS)}; change the ending")
    return FORMATS[suffix]


def _load(composition: Composition, options: Options) -> Setting:
    config = composition.config
    learn = LearnBehavior.of(**manual.inputs(stages.learn_behavior, composition))
    evaluation = Evaluate.of(**manual.inputs(stages.evaluate, composition, told=False))
    device = choose_device(learn.device)
    folder = user_path(options.world_model or learn.world_model)
    model, described = load_world_model(folder, device)
    require(model, Dynamics, by="dreamset dream")
    require_dataset(described, learn.dataset, folder)
    same = config["choices"]["objective"] == described.lineage["objective"]
    with_policy = options.with_policy or options.policy is not None
    validation = Validation.model_validate(config["validation"])
    return Setting(
        model=model,
        described=described,
        folder=folder,
        store=Store.open(learn.store),
        evaluation=evaluation,
        validation=validation,
        objective=config["objective"] if same else None,
        policy=user_path(options.policy or evaluation.policy) if with_policy else None,
        context=validation.context if options.context is None else options.context,
        seed=config["seed"],
        device=device,
        runs=Path(evaluation.world_model).parents[2],
    )


def _decoding(setting: Setting) -> Decoding:
    """The decoder of the model's objective if there is one, otherwise a probe."""
    model = setting.model
    decoder = None
    if setting.objective is not None:
        decoder = own_decoder(model, setting.folder, setting.objective, device=setting.device)
    if decoder is not None:
        return Decoding(decoder, model.spec, OWN)
    probe = probe_decoder(
        model,
        setting.folder,
        setting.store,
        setting.validation,
        seed=setting.seed,
        device=setting.device,
        cache=setting.runs / "dream" / "decoders",
    )
    return Decoding(probe, model.spec, PROBE)


def summary(dream: Dream, model: object) -> list[str]:
    """The mean errors, and where the dream leaves reality."""
    error, ahead = dream.mean_error, len(dream.reward) - dream.context
    lines = [f"observing: {dream.context} steps, mean error {error[: dream.context].mean():.4g}"]
    if ahead < 1:
        return [*lines, f"open loop: {dream.rows - dream.context} steps, to which no truth is known"]
    text = f"open loop: {dream.rows - dream.context} steps, mean error {error[dream.context :].mean():.4g}"
    if dream.predicted_reward is not None:
        gap = dream.predicted_reward[: len(dream.reward)] - dream.reward
        text += f", squared error of the reward {np.square(gap[dream.context :]).mean():.4g}"
    lines.append(text)
    if not isinstance(model, RewardModel):
        lines.append(f"{type(model).__name__} predicts no rewards, so there is no curve of them")
    return [*lines, _where(dream)]


def _where(dream: Dream) -> str:
    """One sentence on where the dream leaves reality."""
    rule = f"{dream.threshold:.4g}, half the error of the constant mean observation"
    if dream.leaves is None:
        return f"The dream stays with reality: its error never exceeds {rule}."
    step = f"step {dream.leaves} (+{dream.leaves - dream.context + 1})"
    if dream.mean_error[dream.context - 1] > dream.threshold:
        return f"The decoded state differs from the truth even while the model observes: its error exceeds {rule}."
    return f"The dream leaves reality at {step}, where its error first exceeds {rule}."
