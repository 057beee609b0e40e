"""Draws the animation of the README: a policy at work, and what two world models dream of the same actions.

    python -m benchmarks.animation --project FOLDER --output docs/dream.gif

FOLDER is one in which ``make repro`` has run. The policy of the first objective acts in the environment. Each model
observes the first rows of this episode and then predicts the others from the actions alone. ``dreamset dream`` draws
one model in the same way.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dreamset.datasets import Store
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.artifacts.saved_models import load_behavior, load_world_model
from dreamset.pipeline.config.compose import Config, compose
from dreamset.pipeline.config.settings import EpisodeLimits, Validation
from dreamset.pipeline.evaluation.decoding import OWN, PROBE, Decoding, own_decoder, probe_decoder
from dreamset.pipeline.evaluation.dream_errors import Dream, compare
from dreamset.pipeline.evaluation.dreaming import Reality, dream_on, recorded_actions
from dreamset.pipeline.evaluation.playing import play
from dreamset.pipeline.report.dream_video import BLACK, write_gif, wrong
from dreamset.pipeline.report.frames import as_rgb
from dreamset.pipeline.report.style import STYLE, series_style
from dreamset.pipeline.stages.environment import environment_factory

CPU = torch.device("cpu")
OBJECTIVES = ("reconstruction", "reward_only")
DPI, WIDTH, HEIGHT = 100, 800, 620
GREY = "#9aa4ad"


@dataclass(frozen=True, slots=True)
class Dreamer:
    """A world model's dream, with the words for it."""

    objective: str
    dream: Dream
    decoder: str


def model_folder(kind: str, objective: str) -> Path:
    """Where ``make repro`` leaves a model."""
    return Path(f"runs/{kind}/{objective}-0/model")


def recorded(config: Config, *, seed: int) -> RecordedEpisode:
    """An episode of the policy of the first objective in the environment."""
    make = environment_factory(
        config["dataset"]["environment"],
        EpisodeLimits(**config["episode_limits"]),
        stage="animation",
        remedy="choose another dataset",
        output="runs/animation",
    )
    model, _ = load_world_model(model_folder("world_model", OBJECTIVES[0]))
    controller = load_behavior(model_folder("behavior", OBJECTIVES[0])).controller(model)
    (episode,) = play(controller, make, seeds=[seed], generator=torch.Generator().manual_seed(seed))
    return episode


def reality_of(episode: RecordedEpisode, rows: int) -> Reality:
    """The first rows, aligned by the time rule."""
    action = np.concatenate([np.zeros_like(episode.actions[:1]), episode.actions])
    reward = np.concatenate([[0.0], episode.rewards])
    return Reality(dict(episode.observations), action, reward).first(rows)


def dreamer(objective: str, reality: Reality, *, context: int, samples: int) -> Dreamer:
    """The dream of one model."""
    config, folder = compose([f"objective={objective}"]), model_folder("world_model", objective)
    model, described = load_world_model(folder)
    decoder = own_decoder(model, folder, config["objective"], device=CPU)
    name = PROBE if decoder is None else OWN
    words = "a probe" if decoder is None else "its own"
    if decoder is None:
        store, validation = (
            Store.open(f"data/stores/{described.lineage['dataset']}"),
            Validation(**config["validation"]),
        )
        cache = Path("runs/dream/decoders")
        decoder = probe_decoder(model, folder, store, validation, seed=0, device=CPU, cache=cache)
    trajectory = dream_on(
        model,
        reality.first(context).batch(model.spec, CPU),
        recorded_actions(model, reality, context=context, device=CPU),
        horizon=len(reality.reward) - context,
        samples=samples,
        generator=torch.Generator().manual_seed(0),
    )
    dream = compare(model, Decoding(decoder, model.spec, name), trajectory, reality, context=context)
    return Dreamer(objective, dream, words)


def frame(dreamers: Sequence[Dreamer], row: int) -> NDArray[np.uint8]:
    """One frame: truth, then the dreams, above the rewards and the errors."""
    first = dreamers[0].dream
    with mpl.rc_context({**STYLE, **BLACK, "font.size": 9}):
        figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        grid = figure.subplots(2, 3, gridspec_kw={"left": 0.06, "right": 0.985, "top": 0.87, "bottom": 0.05})
        words = (
            "observing"
            if row < first.context
            else f"dreaming: {row - first.context + 1} steps after the last observation"
        )
        color = series_style(4 if row < first.context else 1).color
        figure.text(0.06, 0.945, words, fontsize=15, color=color, weight="bold")
        show(grid[0, 0], as_rgb(first.truth["image"][row]), "truth: the policy at work", GREY)
        draw_rewards(grid[1, 0], dreamers, row)
        for column, made in enumerate(dreamers, start=1):
            truth, image = made.dream.truth["image"][row], made.dream.prediction["image"][row]
            show(grid[0, column], as_rgb(image), f"dream: {made.objective}", color)
            show(grid[1, column], wrong(truth, image), f"error (decoder: {made.decoder})", "black")
        canvas.draw()
        pixels: NDArray[np.uint8] = np.array(canvas.buffer_rgba())[..., :3].copy()
        return pixels


def show(axes: mpl.axes.Axes, image: NDArray[np.floating], title: str, color: str) -> None:
    """An image with a title and a border."""
    axes.imshow(image.clip(0, 1), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.set_title(title, fontsize=10, loc="left")
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=2.5)


def draw_rewards(axes: mpl.axes.Axes, dreamers: Sequence[Dreamer], row: int) -> None:
    """The real reward and that of each dream, up to a row."""
    first = dreamers[0].dream
    axes.plot(np.arange(1, row + 1), first.reward[1 : row + 1], color="white", linewidth=2, label="real")
    for number, made in enumerate(dreamers):
        predicted = made.dream.predicted_reward
        assert predicted is not None
        style = series_style(4 - 3 * number)
        label = made.objective
        values = predicted[1 : row + 1]
        axes.plot(np.arange(1, row + 1), values, linestyle=style.line, color=style.color, linewidth=1.8, label=label)
    axes.axvline(first.context - 0.5, color="gray", linestyle=":", linewidth=1)
    axes.set(xlim=(0, first.rows), ylim=(-1.1, 1.9), yticks=[-1, 0, 1])
    axes.set_box_aspect(1)
    axes.set_title("reward", fontsize=10, loc="left")
    axes.legend(loc="upper left", frameon=False, fontsize=8, ncols=1, labelspacing=0.25)


def main() -> None:
    """Draws the animation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path(), help="folder with runs/ and data/; default: this one")
    parser.add_argument("--output", type=Path, default=Path("docs/dream.gif"), help="default: %(default)s")
    parser.add_argument("--episode", type=int, default=5, help="of the evaluation; default: %(default)s")
    parser.add_argument("--steps", type=int, default=25, help="steps of open loop; default: %(default)s")
    options = parser.parse_args()
    output = options.output.absolute()
    os.chdir(options.project)
    config = compose([])
    context = config["validation"]["context"]
    episode = recorded(config, seed=config["evaluation"]["seed"] + options.episode)
    reality = reality_of(episode, context + options.steps)
    dreamers = [dreamer(objective, reality, context=context, samples=8) for objective in OBJECTIVES]
    held = [*range(len(reality.reward)), *[len(reality.reward) - 1] * 10]  # the last frame stays for a second
    write_gif(output, len(held), lambda number: frame(dreamers, held[number]), milliseconds=150)
    for made in dreamers:
        ahead = made.dream.mean_error[context:].mean()
        print(
            f"{made.objective}: mean error {ahead:.4f} in {options.steps} steps of open loop; decoder: {made.decoder}"
        )
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
