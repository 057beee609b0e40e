"""Published facts about the D4RL datasets: addresses, reference scores and ends of episodes."""

import importlib.util
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from dreamset.core.errors import UserError

_ROOT = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"

_SCORES = {  # environment: (score of a random policy, score of an expert policy)
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
    "antmaze": (0.0, 1.0),
    "maze2d-open": (0.01, 20.66),
    "maze2d-umaze": (23.85, 161.86),
    "maze2d-medium": (13.13, 277.39),
    "maze2d-large": (6.7, 273.99),
    "maze2d-open-dense": (11.17817, 27.166538620695782),
    "maze2d-umaze-dense": (68.537689, 193.66285642381482),
    "maze2d-medium-dense": (44.264742, 297.4552547777125),
    "maze2d-large-dense": (30.569041, 303.4857382709002),
    "kitchen": (0.0, 4.0),
    "pen": (96.262799, 3076.8331017826877),
    "hammer": (-274.856578, 12794.134825156867),
    "relocate": (-6.425911, 4233.877797728884),
    "door": (-56.512833, 2880.5693087298737),
    "flow-ring": (-165.22, 24.42),
    "flow-merge": (118.67993, 330.03179),
    "carla-lane": (-0.8503839912088142, 1023.5784385429523),
    "carla-town": (-114.81579500772153, 2440.1772022247314),
    "bullet-halfcheetah": (-1275.766996, 2381.6725),
    "bullet-hopper": (20.058972, 1441.8059623430963),
    "bullet-ant": (373.705955, 2650.495),
    "bullet-walker2d": (16.523877, 1623.6476303317536),
    "bullet-maze2d-open": (8.75, 64.15),
    "bullet-maze2d-umaze": (32.46, 153.99),
    "bullet-maze2d-medium": (14.87, 238.05),
    "bullet-maze2d-large": (1.82, 285.92),
}
_MAZE2D_STEPS = {"open": 150, "umaze": 300, "medium": 600, "large": 800}
_UNSCORED = {"ant-random-expert-v0", "carla-town-full-v0"}


@dataclass(frozen=True, slots=True)
class D4RLFacts:
    """Facts about one published dataset."""

    url: str
    ref_min_score: float | None
    ref_max_score: float | None
    cut_at_terminals: bool  # False if `terminals` marks a waypoint after which the episode continues
    episode_length: int | None  # cuts a continuous recording into episodes


def facts(dataset_id: str) -> D4RLFacts:
    """Facts about a dataset; address and scores come from the d4rl package if it is installed.

    Raises:
        UserError: if there is no such dataset; lists the datasets of the same environment.
    """
    table = published()
    if dataset_id not in table:
        environment = dataset_id.split("-")[0]
        similar = sorted(name for name in table if name.startswith(environment)) or sorted(table)
        raise UserError(f"{dataset_id!r} is not a D4RL dataset; available: {', '.join(similar)}")
    return table[dataset_id]


@cache
def published() -> Mapping[str, D4RLFacts]:
    """Facts about every dataset, by id."""
    ours = {name: _facts(name, _ROOT + path, *_reference_scores(name)) for name, path in addresses()}
    installed = _installed_infos()
    if installed is None:
        return ours
    low, high = installed.REF_MIN_SCORE, installed.REF_MAX_SCORE
    theirs = {name: _facts(name, url, low.get(name), high.get(name)) for name, url in installed.DATASET_URLS.items()}
    return ours | theirs


def addresses() -> Iterator[tuple[str, str]]:
    """(id, path below the root) of every dataset with vector observations and continuous actions."""
    yield from _locomotion()
    yield from _adroit()
    yield from _antmaze()
    yield from _maze2d()
    yield from _others()
    yield from _bullet()


def _facts(dataset_id: str, url: str, low: float | None, high: float | None) -> D4RLFacts:
    if "maze2d" not in dataset_id:
        return D4RLFacts(url, low, high, cut_at_terminals=True, episode_length=None)
    steps = next(steps for size, steps in _MAZE2D_STEPS.items() if size in dataset_id.split("-"))
    return D4RLFacts(url, low, high, cut_at_terminals=False, episode_length=steps)


def _reference_scores(dataset_id: str) -> tuple[float, float] | tuple[None, None]:
    """Scores of the environment, which is the longest known prefix of the id."""
    if dataset_id in _UNSCORED or "-eval-" in dataset_id:
        return None, None
    environment = max((name for name in _SCORES if dataset_id.startswith(f"{name}-")), key=len)
    return _SCORES[environment]


def _locomotion() -> Iterator[tuple[str, str]]:
    environments = ("halfcheetah", "hopper", "walker2d", "ant")
    kinds = ("random", "medium", "expert", "medium-replay", "medium-expert")
    for environment, kind in itertools.product(environments, (*kinds, "full-replay")):
        for version in ("v1", "v2"):
            file = f"{environment}_{kind.replace('-', '_')}-{version}.hdf5"
            yield f"{environment}-{kind}-{version}", f"gym_mujoco_{version}/{file}"
    for environment, kind in (*itertools.product(environments, kinds), ("ant", "random-expert")):
        file = f"{environment}_{kind.replace('-', '_')}.hdf5".replace("medium_replay", "mixed")
        yield f"{environment}-{kind}-v0", f"gym_mujoco/{file.replace('walker2d_mixed', 'walker_mixed')}"


def _adroit() -> Iterator[tuple[str, str]]:
    first_release = {"human": "v0_demos_clipped", "cloned": "demos-v0-bc-combined", "expert": "v0_expert_clipped"}
    for environment, (kind, ending) in itertools.product(("pen", "hammer", "relocate", "door"), first_release.items()):
        yield f"{environment}-{kind}-v0", f"hand_dapg/{environment}-{ending}.hdf5"
        yield f"{environment}-{kind}-v1", f"hand_dapg_v1/{environment}-{kind}-v1.hdf5"


def _antmaze() -> Iterator[tuple[str, str]]:
    mazes = {"umaze": "u-maze", "medium": "big-maze", "large": "hardest-maze"}
    for (size, maze), kind in itertools.product(mazes.items(), ("play", "diverse")):
        name = "antmaze-umaze" if (size, kind) == ("umaze", "play") else f"antmaze-{size}-{kind}"
        starts, goals = name != "antmaze-umaze", kind == "diverse"
        file = f"Ant_maze_{maze}_noisy_multistart_{starts}_multigoal_{goals}_sparse"
        yield f"{name}-v0", f"ant_maze_new/{file}.hdf5"
        yield f"{name}-v2", f"ant_maze_v2/{file}_fixed.hdf5"


def _maze2d() -> Iterator[tuple[str, str]]:
    yield "maze2d-open-v0", "maze2d/maze2d-open-sparse.hdf5"
    yield "maze2d-open-dense-v0", "maze2d/maze2d-open-dense.hdf5"
    for use, size in itertools.product(("", "eval-"), ("umaze", "medium", "large")):
        yield f"maze2d-{use}{size}-v1", f"maze2d/maze2d-{use}{size}-sparse-v1.hdf5"
        yield f"maze2d-{use}{size}-dense-v1", f"maze2d/maze2d-{use}{size}-dense-v1.hdf5"


def _others() -> Iterator[tuple[str, str]]:
    yield "kitchen-complete-v0", "kitchen/mini_kitchen_microwave_kettle_light_slider-v0.hdf5"
    yield "kitchen-partial-v0", "kitchen/kitchen_microwave_kettle_light_slider-v0.hdf5"
    yield "kitchen-mixed-v0", "kitchen/kitchen_microwave_kettle_bottomburner_light-v0.hdf5"
    yield "carla-lane-v0", "carla/carla_lane_follow_flat-v0.hdf5"
    yield "carla-town-v0", "carla/carla_town_subsamp_flat-v0.hdf5"
    yield "carla-town-full-v0", "carla/carla_town_flat-v0.hdf5"
    for road, (kind, file) in itertools.product(("ring", "merge"), (("random", "random"), ("controller", "idm"))):
        yield f"flow-{road}-{kind}-v0", f"flow/flow-{road}-v0-{file}.hdf5"


def _bullet() -> Iterator[tuple[str, str]]:
    kinds = ("random", "medium", "expert", "medium-expert", "medium-replay")
    for environment, kind in itertools.product(("halfcheetah", "hopper", "ant", "walker2d"), kinds):
        yield f"bullet-{environment}-{kind}-v0", f"bullet/bullet-{environment}_{kind.replace('-', '_')}.hdf5"
    for size in _MAZE2D_STEPS:
        yield f"bullet-maze2d-{size}-v0", f"bullet/bullet-maze2d-{size}-sparse.hdf5"


def _installed_infos() -> ModuleType | None:
    """The module ``d4rl.infos`` alone, because importing the package needs an old simulator."""
    package = importlib.util.find_spec("d4rl")
    if package is None or not package.submodule_search_locations:
        return None
    file = Path(package.submodule_search_locations[0]) / "infos.py"
    spec = importlib.util.spec_from_file_location("d4rl_infos", file)
    if spec is None or spec.loader is None or not file.is_file():
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
