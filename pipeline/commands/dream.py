"""``dreamset dream``."""

import argparse
from pathlib import Path

from dreamset.pipeline.commands.base import Commands, command, take_overrides, take_quiet

EXAMPLES = """\
examples:
  dreamset dream                                         a held-out episode of median return
  dreamset dream objective=reward_only --episode best --output dream.gif
  dreamset dream --with-policy                           the policy, and its actions in the environment
  dreamset dream --with-policy --horizon 90 --output dream.png

The model observes the first rows and predicts the others. Truth, dream and error are drawn beside each other, above the
rewards, the error and the uncertainty; a csv file of the same name has all figures. The decoder is that of the model's
objective, if it has one for all observations, otherwise a probe. With a policy, the model imagines the policy's actions
after the observed rows, and the truth is what the same actions do in the environment of the dataset.
"""


def add(commands: Commands) -> None:
    """Adds the command."""
    dream = command(
        commands, "dream", "draw what a world model dreams of an episode or a policy, beside reality", EXAMPLES
    )
    take_overrides(dream, "Hydra overrides that select models and data, e.g. objective=contrastive seed=1")
    dream.add_argument(
        "--episode",
        metavar="best|median|worst|N",
        help="held-out episode by its return, or any episode of the store by its number; with a policy, the number of "
        "an episode of the evaluation; default: median, with a policy 0",
    )
    dream.add_argument(
        "--world-model", type=Path, help="folder of a saved world model; default: that of the configuration"
    )
    dream.add_argument("--with-policy", action="store_true", help="dream of the learned policy instead of a recording")
    dream.add_argument("--policy", type=Path, help="folder of the policy, instead of that of the configuration")
    dream.add_argument("--context", type=int, help="observed rows; default: validation.context")
    dream.add_argument(
        "--horizon", type=int, help="rows without observations; default: the longest of validation.horizons"
    )
    dream.add_argument(
        "--samples", type=int, default=8, help="dreams whose spread is the uncertainty; default: %(default)s"
    )
    dream.add_argument(
        "--output", type=Path, help="file that ends in .mp4, .gif or .png; default: an mp4 in the folder runs/dream"
    )
    take_quiet(dream)
    dream.set_defaults(run=_run_dream)


def _run_dream(options: argparse.Namespace) -> None:
    import os

    from dreamset.pipeline.config.compose import composed, require_effect
    from dreamset.pipeline.progress import QUIET
    from dreamset.pipeline.tools import dream
    from dreamset.pipeline.tools.dream_scenes import Options

    if options.quiet:
        os.environ[QUIET] = "1"
    composition = composed(options.overrides)
    require_effect(composition.without_effect)
    asked = Options(
        episode=options.episode,
        world_model=options.world_model,
        policy=options.policy,
        with_policy=options.with_policy,
        context=options.context,
        horizon=options.horizon,
        samples=options.samples,
        output=options.output,
    )
    print("\n".join(dream.run(composition, asked)))  # noqa: T201
