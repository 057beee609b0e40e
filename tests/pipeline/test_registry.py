"""The registry on the embedded store: what is registered, which version leads, and what came from what."""

from pathlib import Path
from typing import Any

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline.artifacts.saved_models import model_digest
from dreamset.pipeline.registry import catalog, retrieval
from dreamset.pipeline.registry.ranking import evaluated_return, reward_error
from dreamset.pipeline.registry.registration import code_version, registration
from dreamset.pipeline.registry.retrieval import Reference, from_registry
from dreamset.pipeline.tracking import delivery
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


def test_a_version_says_everything_that_one_asks_of_a_model(client: Any) -> None:
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
        "architecture": "dreamset.models.recurrent.world_model.WorldModel",
        "observations": "state: float32 [3]",
        "action": "1 continuous, -2 to 2",
        "lineage": "k",
        "format_version": "3",
        "code_version": code_version(),
        "digest": model_digest(Path("second")),
        "parent": "pendulum.world_model/1",
        "parent_digest": model_digest(Path("first")),
        "parent_run": parent.run,
        "validation/kl": "0.25",
    }
    entity = client.get_model_version(FAMILY, "2")
    assert entity.source == f"{client.get_run(version.run).info.artifact_uri}/model"
    assert entity.run_id == version.run


def test_the_same_model_is_registered_once(client: Any) -> None:
    folder = world_model(Path("model"))
    first, again = register(client, folder), register(client, folder)
    assert again == first
    assert len(catalog.versions(client, FAMILY)) == 1
    register(client, world_model(Path("other"), seed=1))
    assert len(catalog.versions(client, FAMILY)) == 2


def test_the_champion_is_the_lowest_error_at_the_longest_horizon(client: Any) -> None:
    errors = [{"h5": 0.5}, {"h5": 0.6}, {"h5": 0.4}, {"h5": 9.0, "h45": 9.0}, {"h5": 0.1}, {"h5": 9.0, "h45": 8.0}, {}]
    leaders = []
    for seed, figures in enumerate(errors):
        named = {f"validation__reward_error_{horizon}": value for horizon, value in figures.items()}
        register(client, world_model(Path(str(seed)), seed=seed), **named)
        leaders.append(champion(client))
    assert leaders == [1, 1, 3, 4, 4, 6, 6]
    assert catalog.version(client, FAMILY, alias="latest").number == 7


def test_without_a_figure_there_is_no_champion_and_nan_is_none(client: Any) -> None:
    register(client, world_model(Path("a")))
    version = register(client, world_model(Path("b"), seed=1), validation__reward_error_h5=float("nan"))
    assert version.rank is None
    with pytest.raises(UserError, match=r"has no 'champion'; versions are 1, 2, aliases are latest"):
        champion(client)
    assert catalog.version(client, FAMILY).number == 2


def test_equal_figures_leave_the_champion_and_a_choice_by_hand_stays(client: Any) -> None:
    for seed in (0, 1):
        register(client, world_model(Path(str(seed)), seed=seed), validation__reward_error_h5=0.5)
    assert champion(client) == 1
    register(client, world_model(Path("2"), seed=2), validation__reward_error_h5=0.7)
    client.set_registered_model_alias(FAMILY, "champion", "3")
    register(client, world_model(Path("0")), validation__reward_error_h5=0.5)  # the first, delivered again
    assert champion(client) == 1
    register(client, world_model(Path("4"), seed=4))
    client.set_registered_model_alias(FAMILY, "champion", "4")  # it has no figure, so nothing is better by it
    register(client, world_model(Path("5"), seed=5), validation__reward_error_h5=0.1)
    assert champion(client) == 4


def test_a_policy_leads_by_its_return_once_it_is_evaluated(client: Any) -> None:
    of = register(client, world_model(Path("model"))).digest
    folders = [policy(Path(f"policy{seed}"), seed=seed, of=of) for seed in (0, 1)]
    for folder in folders:
        register(client, folder, imagination__reward=3.0, loss__actor=1.0)
    for folder, value in zip(folders, (-5.0, -9.0), strict=True):
        catalog.measure(client, model_digest(folder), {"evaluation/return_iqm": value})
    first = catalog.version(client, "pendulum.policy", alias="champion")
    assert (first.number, first.score) == (1, "evaluation/return_iqm = -5")
    assert first.figures == {"imagination/reward": 3.0, "evaluation/return_iqm": -5.0}  # losses are the run's alone
    catalog.measure(client, model_digest(folders[1]), {"evaluation/return_iqm": -1.0})
    assert champion(client, "pendulum.policy") == 2
    with pytest.raises(UserError, match="model eeeeeeeeeeee is not registered"):
        catalog.measure(client, "e" * 64, {"evaluation/return_iqm": 0.0})


def test_ranks_order_as_people_would() -> None:
    short, long = {"validation/reward_error_h5": 0.1}, {"validation/reward_error_h5": 0.1, "validation/kl": 0.0}
    assert reward_error(short) == reward_error(long)
    errors = [reward_error({f"validation/reward_error_h{h}": error}) for h, error in ((5, 2.0), (5, 0.1), (15, 3.0))]
    returns = [evaluated_return({"evaluation/return_iqm": value}) for value in (-1.0, 0.0, 2.0)]
    for scores in (errors, returns):
        ranks = [score.rank for score in scores if score is not None]
        assert len(ranks) == 3
        assert ranks == sorted(set(ranks))
    assert reward_error({"validation/kl": 1.0}) is None
    assert evaluated_return({}) is None


def test_the_chain_is_followed_by_digest_through_every_generation_of_parents(client: Any) -> None:
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
    (gone,) = catalog.origins(client, last)
    assert (gone.digest, gone.version) == (second.digest, None)


def test_a_circle_of_tags_ends(client: Any) -> None:
    first = register(client, world_model(Path("a")))
    second = register(client, world_model(Path("b"), seed=1, parent={"digest": first.digest}))
    client.set_model_version_tag(FAMILY, "1", "parent_digest", second.digest)
    assert len(catalog.origins(client, second)) == 1


def test_names_that_mlflow_refuses_are_spelled_otherwise() -> None:
    assert catalog.family("hopper/medium: v2's", "policy") == "hopper-medium--v2-s.policy"


def test_models_of_other_programs_stay_out_of_the_way(client: Any) -> None:
    client.create_registered_model("theirs")
    assert catalog.families(client) == []
    with pytest.raises(UserError, match=r"no model named 'theirs' is registered; there are: none yet"):
        catalog.versions(client, "theirs")
    folder = world_model(Path("model"))
    run = delivery.make_run(client, "dreamset", "theirs")
    with pytest.raises(UserError, match="theirs holds models of another program, not world_model"):
        catalog.register(client, run, registration(folder, {}, name="theirs"))
    register(client, folder)
    client.create_model_version(FAMILY, "file:///elsewhere", tags={"kind": "world_model", "digest": "../../etc"})
    with pytest.raises(UserError, match=r"'../../etc' is no digest of a model"):
        from_registry(FAMILY, version=2)


def test_a_registered_model_comes_back_with_its_files_and_stays_without_the_store(client: Any) -> None:
    folder = world_model(Path("model"))
    register(client, folder, validation__reward_error_h5=1.0)
    found = from_registry(FAMILY, alias="champion")
    assert found == retrieval.KEPT / model_digest(folder)
    assert {path.name: path.read_bytes() for path in found.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    pinned = retrieval.pin(Reference(name=FAMILY))
    Path("tracking/mlflow.db").unlink()
    assert retrieval.local_folder(pinned) == found
    assert [path.name for path in retrieval.KEPT.iterdir()] == [pinned.digest]


def test_a_damaged_copy_is_fetched_again_and_changed_artifacts_are_refused(client: Any) -> None:
    version = register(client, world_model(Path("model")))
    kept = from_registry(FAMILY)
    (kept / "model.json").write_text("{}")
    assert model_digest(from_registry(FAMILY)) == version.digest
    artifacts = Path(client.get_run(version.run).info.artifact_uri.removeprefix("file://")) / "model"
    rewrite(artifacts, lineage={"objective": "another"})
    assert model_digest(from_registry(FAMILY)) == version.digest  # the copy is whole
    (kept / "model.json").unlink()
    with pytest.raises(UserError, match="are not the model that was registered"):
        from_registry(FAMILY)
    assert not (kept / "model.json").exists()
    assert not list(retrieval.KEPT.glob(".*"))


def test_a_run_names_its_model_and_a_run_without_one_names_its_stages(client: Any) -> None:
    version = register(client, world_model(Path("model")))
    pinned = retrieval.pin(Reference.parse(version.run))
    assert (pinned.digest, pinned.run) == (version.digest, version.run)
    root = delivery.make_run(client, "dreamset", "root")
    client.set_tag(version.run, "mlflow.parentRunId", root)
    with pytest.raises(UserError, match=rf"run {root} keeps no model; its stages are model {version.run}"):
        retrieval.pin(Reference.parse(root))
    with pytest.raises(UserError, match="not found"):
        retrieval.pin(Reference.parse("f" * 32))


def test_a_link_among_the_artifacts_is_not_followed(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    version = register(client, world_model(Path("model")))
    secret = Path("secret").absolute()
    secret.write_text("{}")

    def linked(_run: str, path: str, folder: str) -> str:
        place = Path(folder) / Path(path).name
        place.symlink_to(secret)
        return str(place)

    monkeypatch.setattr(client, "download_artifacts", linked)
    with pytest.raises(UserError, match="came from another place"):
        retrieval.pin(Reference(run=version.run))
    monkeypatch.setattr(client, "download_artifacts", lambda *_: str(secret))
    with pytest.raises(UserError, match="came from another place"):
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
def test_references_are_read_as_they_are_written(text: str, expected: Reference) -> None:
    Path("here").mkdir()
    Path("here/model.json").touch()
    assert Reference.parse(text) == expected
    with pytest.raises(UserError, match=r"'runs/nowhere/model' is no NAME"):
        Reference.parse("runs/nowhere/model")


def test_what_is_not_there_is_said_with_what_is(client: Any) -> None:
    register(client, world_model(Path("model")))
    with pytest.raises(UserError, match=r"no model named 'x' is registered; there are: pendulum\.world_model"):
        from_registry("x")
    with pytest.raises(UserError, match=r"has no version 4; versions are 1, aliases are latest"):
        from_registry(FAMILY, version=4)


def test_without_a_store_nothing_is_made() -> None:
    with pytest.raises(UserError, match=r"there is no tracking/mlflow\.db, so no model is registered; train one"):
        from_registry(FAMILY)
    assert not Path("tracking").exists()


def test_a_server_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"registry at http://127\.0\.0\.1:9: ") as error:
        from_registry(FAMILY)
    assert "\n" not in str(error.value)


def test_a_pinned_folder_that_changed_is_refused() -> None:
    pinned = retrieval.pin(Reference(folder=str(world_model(Path("model")))))
    assert retrieval.local_folder(pinned) == Path("model")
    world_model(Path("model"), seed=1)
    with pytest.raises(UserError, match="model is another model than when this was resolved"):
        retrieval.local_folder(pinned)
    with pytest.raises(UserError, match="nowhere holds no model"):
        retrieval.pin(Reference(folder="nowhere"))
