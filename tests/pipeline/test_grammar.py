"""Mistakes in the grammar of options and overrides are one line that states what to write instead."""

import shlex

import pytest

from dreamset.core.errors import UserError
from dreamset.pipeline import cli
from dreamset.pipeline.config.compose import compose

FOLDER = ["dataset=npz_folder", "dataset.source.observations={image: rgb}"]


def refusal(override: str) -> str:
    with pytest.raises(UserError) as caught:
        compose([*FOLDER, override])
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "path",
    ["/a b/[x]", "/a/x=y", "/ü/$HOME", "/a{b}", "/a(b)", "~/x", "/a#b&c;d", "/it's", '/a/"q"', '/a\\"q/[b\\', "/a,b"],
)
def test_advice_for_special_characters_gives_the_value_that_was_meant(path: str) -> None:
    message = refusal(f"dataset.source.path={path}")
    advice = message.rpartition(": ")[2]
    (override,) = shlex.split(advice)  # as the shell passes it on
    assert compose([*FOLDER, override])["dataset"]["source"]["path"] == path


@pytest.mark.parametrize("override", ["foo", "=3", "+x", "seed:1", "/a/b=3", "data set=3", "--seed=3"])
def test_override_without_key_or_equals_sign_is_named(override: str) -> None:
    assert f"{override!r} is not KEY=VALUE; write a key, an equals sign and a value" in refusal(override)


def test_unfinished_list_or_mapping_is_not_quoted() -> None:
    message = refusal("dataset.source.observations={a: b")
    assert "the list or mapping is not complete; write it in quotes as in yaml: 'dataset.source" in message


def test_unknown_reference_names_the_way_to_environment_variables() -> None:
    assert "'HOME' not found; ${NAME} refers to another setting, ${oc.env:NAME}" in refusal(
        "dataset.source.path=${HOME}/x"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ingst", "did you mean ingest?; see `dreamset --help`"),
        ("show", "STAGE is missing; see `dreamset show --help`"),
        ("show foo", "STAGE is 'foo'; allowed: collect, ingest, "),
        (
            "ingest --seed=3",
            "--seed=3 is unknown; settings are written without dashes: seed=3; see `dreamset ingest --help`",
        ),
        ("ingest --resolved", "--resolved needs a value; see `dreamset ingest --help`"),
        ("ui --port x", "--port is 'x'; allowed: a whole number; see `dreamset ui --help`"),
        (
            "data inspekt x",
            "TOOL is 'inspekt'; allowed: inspect, verify, card, score, export, merge, split, label-actions; "
            "did you mean inspect?",
        ),
        ("data split x", "NAME=SHARE and --output are missing; see `dreamset data split --help`"),
        ("data inspect x y", "y is unknown; see `dreamset data --help`"),
        ("models shw", "did you mean show?; see `dreamset models --help`"),
    ],
)
def test_wrong_option_is_one_line_with_the_way_out(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments.split())
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("dreamset: error: ")
    assert message in line
