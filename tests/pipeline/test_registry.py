"""The registry on the embedded store: registration, champions, lineage and retrieval."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.models import Model

from dreamset.core.errors import UserError
from dreamset.pipeline.artifacts.saved_models import model_digest
from dreamset.pipeline.registry import catalog, retrieval
from dreamset.pipeline.registry.logged import Runs
from dreamset.pipeline.registry.ranking import POLICY_RETURN, leading, outranks, scores
from dreamset.pipeline.registry.registration import code_version, registration
from dreamset.pipeline.registry.retrieval import Reference, from_registry
from dreamset.pipeline.tracking import delivery, rows
from tests.pipeline.registered import fresh_store, policy, register, rewrite, world_model

FAMILY = "pendulum.world_model"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    delivery.client_of(f"sqlite:///{folder / 'mlflow.db'}").search_experiments(max_results=1)
    return folder / "mlflow.db"


@pytest.fixture
def client(template: Path) -> Any:
    return fresh_store(template)


def champion(client: Any, name: str = FAMILY) -> int:
    return catalog.version(client, name, alias="champion").number


def test_version_has_tags_for_lineage_interface_and_figures(client: Any) -> None:
    parent = register(client, world_model(Path("first")))
    origin = {"digest": parent.digest, "name": parent.name, "version": 1, "run": parent.run}
    version = register(client, world_model(Path("second"), seed=1, parent=origin), validation__kl=0.25)
    assert (version.name, version.number) == (FAMILY, 2)
    assert dict(version.tags) == {
        "kind": "world_model",
        "generation": "dreamer_v1",
        "objective": "reconstruction",
        "seed": "1",
        "dataset": "pendulum",
        "dataset_digest": "d" * 64,
        "digest": model_digest(Path("second")),
        "parent": "pendulum.world_model/1",
        "parent_digest": model_digest(Path("first")),
        "parent_run": parent.run,
        "logged_model": version.tags["logged_model"],
    }
    model = client.get_logged_model(version.tags["logged_model"])
    assert client.get_model_version(FAMILY, "2").source == model.artifact_location
    assert model.params == {
        "architecture": "dreamset.models.recurrent.world_model.WorldModel",
        "observations": "state: float32 [3]",
        "action": "1 continuous, -2 to 2",
        "format_version": "3",
        "code_version": code_version(),
        **{name: version.tags[name] for name in ("generation", "objective", "seed", "dataset", "dataset_digest")},
        "lineage": "k",
        "stage": "-",
    }
    assert [(metric.key, metric.value, metric.run_id) for metric in model.metrics] == [
        ("validation/kl", 0.25, version.run)
    ]


def test_metric_that_a_run_has_is_linked_to_the_model_and_not_repeated(client: Any) -> None:
    run = delivery.make_run(client, "dreamset", "any")
    for step, value in ((10, 2.0), (20, 1.0)):
        client.log_metric(run, "validation/kl", value, timestamp=step, step=step)
    wanted = registration(world_model(Path("model")), {"validation/kl": 1.0, "cost/updates": 20.0})
    version = catalog.register(client, Runs(run, run), wanted, Path("model"))
    history = client.get_metric_history(run, "validation/kl")
    assert [(point.step, point.value) for point in history] == [(10, 2.0), (20, 1.0)]
    metrics = {metric.key: metric for metric in client.get_logged_model(version.tags["logged_model"]).metrics}
    assert metrics.keys() == {"validation/kl", "workload/updates"}
    assert (metrics["validation/kl"].step, metrics["validation/kl"].timestamp) == (20, 20)
    assert catalog.figures(client, version) == {"validation/kl": 1.0, "cost/updates": 20.0}


def register_as_earlier_releases_did(client: Any, folder: Path, kind: str, **figures: float) -> str:
    """Files among the artifacts of a run, figures as tags. Returns the digest."""
    name, run = f"pendulum.{kind}", delivery.make_run(client, "dreamset", kind)
    client.log_artifacts(run, str(folder), "model")
    client.create_registered_model(name, tags={catalog.KIND: kind})
    tags = {name.replace("__", "/"): str(value) for name, value in figures.items()}
    tags |= {"ranked_by": list(tags)[-1], "kind": kind, "digest": model_digest(folder), "objective": "reconstruction"}
    client.create_model_version(name, f"{client.get_run(run).info.artifact_uri}/model", run, tags=tags)
    client.set_registered_model_alias(name, "champion", "1")
    return model_digest(folder)


def test_version_of_an_earlier_release_is_ranked_by_its_tags(client: Any) -> None:
    errors = {"validation__reward_error_h5": 0.5, "validation__mean_reward_error_to_h5": 0.5}
    digest = register_as_earlier_releases_did(client, world_model(Path("old")), "world_model", **errors)
    old = catalog.version(client, FAMILY)
    assert old.score == "validation/mean_reward_error_to_h5 = 0.5"
    assert catalog.figures(client, old)["validation/reward_error_h5"] == 0.5
    assert from_registry(FAMILY).name == digest
    register(client, world_model(Path("worse"), seed=1), validation__reward_error_h5=0.6)
    assert champion(client) == 1
    register(client, world_model(Path("better"), seed=2), validation__reward_error_h5=0.4)
    assert champion(client) == 3
    catalog.measure(client, digest, {POLICY_RETURN: 30.0}, "evaluation 1")
    assert champion(client) == 1
    assert catalog.version(client, FAMILY).score == f"{POLICY_RETURN} = 30"
    assert "| return of its best policy | **30.0** |" in client.get_model_version(FAMILY, "1").description


def test_signature_has_the_shapes_of_the_data(client: Any) -> None:
    of = register(client, world_model(Path("model")))
    learned = register(client, policy(Path("policy"), of=of.digest))
    shapes = {}
    for version in (of, learned):
        folder = client.get_model_version(version.name, "1").source.removeprefix("file://")
        signature = Model.load(folder).signature
        sides = (signature.inputs, signature.outputs)
        shapes[version.name] = [{spec.name: (spec.type.name, spec.shape) for spec in side} for side in sides]
    inputs = {
        "observations/state": ("float32", (-1, -1, 3)),
        "action": ("float32", (-1, -1, 1)),
        "is_first": ("bool", (-1, -1)),
    }
    assert shapes == {
        FAMILY: [inputs, {"features": ("float32", (-1, -1, -1))}],
        "pendulum.policy": [{"features": ("float32", (-1, 2))}, {"action": ("float32", (-1, 1))}],
    }


def test_row_of_two_models_needs_a_stage_and_a_deleted_model_has_no_files(client: Any) -> None:
    row, first, second = (delivery.make_run(client, "dreamset", name) for name in ("row", "one", "two"))
    versions = []
    for seed, run in enumerate((first, second)):
        folder = world_model(Path(str(seed)), seed=seed)
        versions.append(catalog.register(client, Runs(run, row), registration(folder, {"validation/kl": 1.0}), folder))
    assert [version.run for version in versions] == [row, row]
    assert [from_registry(FAMILY, version=number).name for number in (1, 2)] == [entry.digest for entry in versions]
    assert retrieval.pin(Reference(run=second)).digest == versions[1].digest
    with pytest.raises(UserError, match=f"run {row} has several models; choose another run"):
        retrieval.pin(Reference(run=row))
    client.delete_logged_model(versions[0].tags["logged_model"])
    assert catalog.figures(client, versions[0]) == {}
    with pytest.raises(UserError, match=f"run {first} has no model"):
        retrieval.pin(Reference(run=first))


def test_card_of_a_version_says_what_it_is_how_good_and_how_to_load_it(client: Any) -> None:
    of = register(client, world_model(Path("model")), validation__reward_error_h15=0.25)
    learned = register(client, policy(Path("policy"), of=of.digest))
    measured = {"evaluation/return_iqm": 90.0, "evaluation/return_iqm_low": 85.0, "evaluation/return_iqm_high": 95.0}
    catalog.measure(client, learned.digest, measured)
    catalog.measure(client, of.digest, {POLICY_RETURN: 90.0}, "evaluation 1")
    cards = {name: client.get_model_version(name, "1").description for name in (FAMILY, "pendulum.policy")}
    assert cards[FAMILY].startswith("World model for pendulum, objective reconstruction, generation dreamer_v1, seed 0")
    for line in ("| return of its best policy | **90.0** | ", "| reward error +15 | **0.2500** | "):
        assert line in cards[FAMILY]
    assert (
        'dreamset.load_world_model(\n    dreamset.from_registry("pendulum.world_model", version=1)\n)' in cards[FAMILY]
    )
    assert "| return (IQM) | **90.0** (85.0 to 95.0) | " in cards["pendulum.policy"]
    assert f"learned in [{FAMILY}/1](#/models/{FAMILY}/versions/1)" in cards["pendulum.policy"]
    run = client.get_run(of.run).info
    assert f"[{run.run_name}](#/experiments/{run.experiment_id}/runs/{run.run_id})" in cards[FAMILY]


def test_registered_model_says_which_version_is_champion_and_why(client: Any) -> None:
    described = []
    for seed, figures in enumerate(({}, {"validation__reward_error_h5": 0.5}, {"validation__reward_error_h5": 0.25})):
        register(client, world_model(Path(str(seed)), seed=seed), **figures)
        described.append(client.get_registered_model(FAMILY).description)
    assert "**Champion:** none yet" in described[0]
    why = "**Why:** mean reward error to +5 0.5000."
    assert f"**Champion:** [{FAMILY}/2](#/models/{FAMILY}/versions/2). {why}" in described[1]
    why = "**Why:** mean reward error to +5 0.2500; the champion before, version 2, has mean reward error to +5 0.5000."
    assert f"[{FAMILY}/3](#/models/{FAMILY}/versions/3). {why}" in described[2]
    client.set_registered_model_alias(FAMILY, "champion", "1")
    register(client, world_model(Path("3"), seed=3))
    by_hand = f"[{FAMILY}/1](#/models/{FAMILY}/versions/1), which a person has chosen."
    assert by_hand in client.get_registered_model(FAMILY).description


def test_description_that_a_person_wrote_stays(client: Any) -> None:
    version = register(client, world_model(Path("model")))
    edited = client.get_model_version(FAMILY, "1").description.replace("World model", "My world model")
    client.update_model_version(FAMILY, "1", edited)
    client.update_registered_model(FAMILY, "ours")
    catalog.measure(client, version.digest, {POLICY_RETURN: 90.0})
    assert client.get_model_version(FAMILY, "1").description == edited
    assert client.get_registered_model(FAMILY).description == "ours"


def test_same_model_is_registered_once(client: Any) -> None:
    folder = world_model(Path("model"))
    first, again = register(client, folder), register(client, folder)
    assert again == first
    assert len(catalog.versions(client, FAMILY)) == 1
    register(client, world_model(Path("other"), seed=1))
    assert len(catalog.versions(client, FAMILY)) == 2


def test_champion_without_policies_has_the_lowest_error_over_most_steps(client: Any) -> None:
    errors = [{"h5": 0.5}, {"h5": 0.6}, {"h5": 0.4}, {"h5": 9.0, "h15": 9.0}, {"h5": 0.1}, {"h5": 9.0, "h15": 8.0}, {}]
    leaders = []
    for seed, figures in enumerate(errors):
        named = {f"validation__reward_error_{horizon}": value for horizon, value in figures.items()}
        register(client, world_model(Path(str(seed)), seed=seed), **named)
        leaders.append(champion(client))
    assert leaders == [1, 1, 3, 4, 4, 6, 6]
    assert catalog.version(client, FAMILY, alias="latest").number == 7


def test_models_without_a_finite_figure_have_no_champion(client: Any) -> None:
    register(client, world_model(Path("a")))
    version = register(client, world_model(Path("b"), seed=1), validation__reward_error_h5=float("nan"))
    assert leading(catalog.scores_of(client, version)) is None
    with pytest.raises(UserError, match=r"has no 'champion'; versions: 1, 2; aliases: latest"):
        champion(client)
    assert catalog.version(client, FAMILY).number == 2


def test_equal_figures_keep_the_champion_and_a_manual_alias(client: Any) -> None:
    for seed in (0, 1):
        register(client, world_model(Path(str(seed)), seed=seed), validation__reward_error_h5=0.5)
    assert champion(client) == 1
    register(client, world_model(Path("2"), seed=2), validation__reward_error_h5=0.7)
    client.set_registered_model_alias(FAMILY, "champion", "3")
    register(client, world_model(Path("0")), validation__reward_error_h5=0.5)  # the first, delivered again
    assert champion(client) == 1
    register(client, world_model(Path("4"), seed=4))
    client.set_registered_model_alias(FAMILY, "champion", "4")  # without a figure, so no version ranks higher
    register(client, world_model(Path("5"), seed=5), validation__reward_error_h5=0.1)
    assert champion(client) == 4


def test_evaluated_policy_with_the_highest_return_is_champion(client: Any) -> None:
    of = register(client, world_model(Path("model"))).digest
    folders = [policy(Path(f"policy{seed}"), seed=seed, of=of) for seed in (0, 1)]
    for folder in folders:
        register(client, folder, imagination__reward=3.0, loss__actor=1.0)
    for folder, value in zip(folders, (-5.0, -9.0), strict=True):
        catalog.measure(client, model_digest(folder), {"evaluation/return_iqm": value})
    first = catalog.version(client, "pendulum.policy", alias="champion")
    assert (first.number, first.score) == (1, "evaluation/return_iqm = -5")
    assert catalog.figures(client, first) == {
        "imagination/reward": 3.0,
        "evaluation/return_iqm": -5.0,
    }  # without losses
    catalog.measure(client, model_digest(folders[1]), {"evaluation/return_iqm": -1.0})
    assert champion(client, "pendulum.policy") == 2
    with pytest.raises(UserError, match="model eeeeeeeeeeee is not registered"):
        catalog.measure(client, "e" * 64, {"evaluation/return_iqm": 0.0})


# open-loop reward errors at 1, 5, 15 and 45 steps of three models, and the returns of their policies
ERRORS = {
    "contrastive": (0.0019, 0.0252, 0.375, 0.41),
    "reconstruction": (0.0011, 0.0055, 0.166, 0.44),
    "reward_only": (0.0226, 0.1481, 0.395, 0.46),
}
RETURNS = {"contrastive": 26.0, "reconstruction": 91.0, "reward_only": 27.0}


def errors_of(objective: str) -> dict[str, float]:
    return {f"validation/reward_error_h{h}": value for h, value in zip((1, 5, 15, 45), ERRORS[objective], strict=True)}


def registered_objectives(client: Any) -> dict[str, catalog.Version]:
    """One version for each objective, from 1 to 3, in the order of ``ERRORS``."""
    return {
        objective: register(
            client,
            world_model(Path(objective), seed=seed, objective=objective),
            **{name.replace("/", "__"): value for name, value in errors_of(objective).items()},
        )
        for seed, objective in enumerate(ERRORS)
    }


def test_errors_beyond_prediction_do_not_choose_the_champion(client: Any) -> None:
    registered_objectives(client)
    version = catalog.version(client, FAMILY, alias="champion")
    assert version.tags["objective"] == "reconstruction"
    expected = np.interp(np.arange(1, 16), (1, 5, 15), ERRORS["reconstruction"][:3]).mean()
    assert version.tags["ranked_by"] == f"validation/mean_reward_error_to_h15 = {expected:.6g}"
    assert catalog.figures(client, version)["validation/mean_reward_error_to_h15"] == pytest.approx(expected)
    assert version.tags["champion_because"] == (
        f"validation/mean_reward_error_to_h15 = {expected:.6g}; the champion before, version 1, has "
        f"{catalog.version(client, FAMILY, number=1).score}"
    )
    assert "champion_because" not in catalog.version(client, FAMILY, number=1).tags


def test_champion_is_the_model_whose_policy_earns_most(client: Any) -> None:
    versions = registered_objectives(client)
    leaders = []
    for objective in ("contrastive", "reward_only", "reconstruction"):
        catalog.measure(client, versions[objective].digest, {POLICY_RETURN: RETURNS[objective]}, "evaluation 1")
        leaders.append(catalog.version(client, FAMILY, alias="champion").tags["objective"])
    assert leaders == ["contrastive", "reward_only", "reconstruction"]
    version = catalog.version(client, FAMILY)
    assert version.score == f"{POLICY_RETURN} = 91"
    assert version.tags["champion_because"] == (
        f"{POLICY_RETURN} = 91; the champion before, version 3, has {POLICY_RETURN} = 27"
    )


def test_best_policy_of_a_model_counts_within_one_evaluation(client: Any) -> None:
    digest = register(client, world_model(Path("model"))).digest
    counted = []
    for value, conditions in ((20.0, "a"), (30.0, "a"), (10.0, "a"), (15.0, "b")):
        catalog.measure(client, digest, {POLICY_RETURN: value}, conditions)
        counted.append(catalog.figures(client, catalog.version(client, FAMILY))[POLICY_RETURN])
    assert counted == [20.0, 30.0, 30.0, 15.0]


def test_returns_are_compared_under_the_same_conditions_only() -> None:
    good, bad = errors_of("reconstruction"), errors_of("contrastive")
    earns = {name: scores("world_model", bad | {POLICY_RETURN: 91.0}, name) for name in "ab"}
    fails = {name: scores("world_model", good | {POLICY_RETURN: 26.0}, name) for name in "ab"}
    assert outranks(earns["a"], fails["a"])
    assert not outranks(fails["a"], earns["a"])
    assert outranks(fails["a"], earns["b"])  # by the error
    assert not outranks(earns["b"], fails["a"])
    unproven = scores("world_model", good)
    assert outranks(earns["a"], unproven)
    assert not outranks(unproven, earns["a"])


def test_ranks_prefer_more_steps_lower_errors_and_higher_returns() -> None:
    worse_to_better = [
        {"validation/reward_error_h45": 0.1},  # beyond the steps that count
        {"validation/reward_error_h5": 2.0},
        {"validation/reward_error_h5": 0.1, "validation/reward_error_h45": 9.0},
        {"validation/reward_error_h15": 3.0},
        {"validation/reward_error_h15": 2.0, "validation/kl": 0.0},
    ]
    ranked = [scores("world_model", figures) for figures in worse_to_better]
    returns = [scores("policy", {"evaluation/return_iqm": value}) for value in (-1.0, 0.0, 2.0)]
    for every in (ranked, returns):
        assert all(outranks(better, worse) for worse, better in itertools.combinations(every, 2))
        assert not any(outranks(worse, better) for worse, better in itertools.combinations(every, 2))
    for figures in ({"validation/kl": 1.0}, {"validation/reward_error_h5": float("inf")}):
        assert leading(scores("world_model", figures)) is None
    assert leading(scores("policy", {})) is None


def test_lineage_is_followed_by_digest_through_all_parents(client: Any) -> None:
    first = register(client, world_model(Path("a")))
    second = register(client, world_model(Path("b"), seed=1, parent={"digest": first.digest}))
    last = register(client, policy(Path("p"), of=second.digest))
    chain = catalog.origins(client, last)
    assert [(o.role, o.version.reference if o.version else None) for o in chain] == [
        ("learned in", "pendulum.world_model/2"),
        ("started from", "pendulum.world_model/1"),
    ]
    assert [o.version.run for o in chain if o.version] == [second.run, first.run]
    client.delete_model_version(FAMILY, "2")
    (deleted,) = catalog.origins(client, last)
    assert (deleted.digest, deleted.version) == (second.digest, None)


def test_circular_lineage_tags_end(client: Any) -> None:
    first = register(client, world_model(Path("a")))
    second = register(client, world_model(Path("b"), seed=1, parent={"digest": first.digest}))
    client.set_model_version_tag(FAMILY, "1", "parent_digest", second.digest)
    assert len(catalog.origins(client, second)) == 1


def test_characters_that_mlflow_refuses_are_replaced_in_names() -> None:
    assert catalog.family("hopper/medium: v2's", "policy") == "hopper-medium--v2-s.policy"


def test_models_of_other_programs_are_not_listed_or_loaded(client: Any) -> None:
    client.create_registered_model("theirs")
    assert catalog.families(client) == []
    with pytest.raises(UserError, match=r"no model named 'theirs' is registered; registered: none yet"):
        catalog.versions(client, "theirs")
    folder = world_model(Path("model"))
    run = delivery.make_run(client, "dreamset", "theirs")
    with pytest.raises(UserError, match="theirs holds models of another program, not world_model"):
        catalog.register(client, Runs(run, run), registration(folder, {}, name="theirs"), folder)
    register(client, folder)
    client.create_model_version(FAMILY, "file:///elsewhere", tags={"kind": "world_model", "digest": "../../etc"})
    with pytest.raises(UserError, match=r"'../../etc' is no digest of a model"):
        from_registry(FAMILY, version=2)


def test_registered_model_is_downloaded_once_and_cached(client: Any) -> None:
    folder = world_model(Path("model"))
    register(client, folder, validation__reward_error_h5=1.0)
    downloaded = from_registry(FAMILY, alias="champion")
    assert downloaded == retrieval.CACHE / model_digest(folder)
    assert {path.name: path.read_bytes() for path in downloaded.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    pinned = retrieval.pin(Reference(name=FAMILY))
    Path("tracking/mlflow.db").unlink()
    assert retrieval.local_folder(pinned) == downloaded
    assert [path.name for path in retrieval.CACHE.iterdir()] == [pinned.digest]


def test_damaged_copy_is_downloaded_again_and_changed_artifacts_are_refused(client: Any) -> None:
    version = register(client, world_model(Path("model")))
    cached = from_registry(FAMILY)
    (cached / "model.json").write_text("{}")
    assert model_digest(from_registry(FAMILY)) == version.digest
    artifacts = Path(client.get_model_version(FAMILY, "1").source.removeprefix("file://"))
    rewrite(artifacts, lineage={"objective": "another"})
    assert model_digest(from_registry(FAMILY)) == version.digest  # from the undamaged copy
    (cached / "model.json").unlink()
    with pytest.raises(UserError, match="were changed or damaged"):
        from_registry(FAMILY)
    assert not (cached / "model.json").exists()
    assert not list(retrieval.CACHE.glob(".*"))


def test_run_refers_to_its_model_and_error_lists_stages_otherwise(client: Any) -> None:
    version = register(client, world_model(Path("model")))
    pinned = retrieval.pin(Reference.parse(version.run))
    assert (pinned.digest, pinned.run) == (version.digest, version.run)
    row, stage = (delivery.make_run(client, name, "any") for name in ("dreamset", "dreamset-stages"))
    client.set_tag(stage, rows.ROW, row)
    with pytest.raises(UserError, match=rf"run {row} has no model; choose one of its stages: any {stage}"):
        retrieval.pin(Reference.parse(row))
    with pytest.raises(UserError, match="not found"):
        retrieval.pin(Reference.parse("f" * 32))


def test_link_out_of_the_artifacts_is_refused(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    version = register(client, world_model(Path("model")))
    secret = Path("secret").absolute()
    secret.write_text("{}")

    def linked(artifact_uri: str, dst_path: str, **_: str) -> str:
        place = Path(dst_path) / Path(artifact_uri).name
        place.symlink_to(secret)
        return str(place)

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", linked)
    with pytest.raises(UserError, match="lies outside of its model's folder"):
        retrieval.pin(Reference(run=version.run))
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda **_: str(secret))
    with pytest.raises(UserError, match="lies outside of its model's folder"):
        retrieval.pin(Reference(run=version.run))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.policy", Reference(name="a.policy")),
        ("a.policy@champion", Reference(name="a.policy", alias="champion")),
        ("a.policy/12", Reference(name="a.policy", version=12)),
        ("0" * 32, Reference(run="0" * 32)),
        ("here", Reference(folder="here")),
    ],
)
def test_references_are_parsed_in_every_form(text: str, expected: Reference) -> None:
    Path("here").mkdir()
    Path("here/model.json").touch()
    assert Reference.parse(text) == expected
    with pytest.raises(UserError, match=r"'runs/nowhere/model' refers to no model"):
        Reference.parse("runs/nowhere/model")


def test_missing_model_or_version_error_lists_existing_ones(client: Any) -> None:
    register(client, world_model(Path("model")))
    with pytest.raises(UserError, match=r"no model named 'x' is registered; registered: pendulum\.world_model"):
        from_registry("x")
    with pytest.raises(UserError, match=r"has no version 4; versions: 1; aliases: latest"):
        from_registry(FAMILY, version=4)


def test_missing_store_is_an_error_and_creates_no_files() -> None:
    with pytest.raises(UserError, match=r"tracking/mlflow\.db does not exist, so no model is registered; train one"):
        from_registry(FAMILY)
    assert not Path("tracking").exists()


def test_unreachable_server_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"registry: no server answers at http://127\.0\.0\.1:9 \(") as error:
        from_registry(FAMILY)
    assert "\n" not in str(error.value)


def test_changed_pinned_folder_is_refused() -> None:
    pinned = retrieval.pin(Reference(folder=str(world_model(Path("model")))))
    assert retrieval.local_folder(pinned) == Path("model")
    world_model(Path("model"), seed=1)
    with pytest.raises(UserError, match="model has changed since the configuration was resolved"):
        retrieval.local_folder(pinned)
    with pytest.raises(UserError, match="nowhere holds no model"):
        retrieval.pin(Reference(folder="nowhere"))
