"""Module and class names of release 0.1 still work, in Python code and in configuration files."""

import importlib
import sys

import pytest

from dreamset.moved import MOVED, current_name


@pytest.mark.parametrize("old", sorted(MOVED))
def test_every_old_name_leads_to_an_existing_object(old: str) -> None:
    module, _, name = MOVED[old].rpartition(".")
    assert hasattr(importlib.import_module(module), name) or importlib.import_module(MOVED[old])


def test_moved_module_imports_under_its_old_name_with_a_warning() -> None:
    sys.modules.pop("dreamset.models.rssm", None)
    now = importlib.import_module("dreamset.models.recurrent.rssm")
    with pytest.warns(DeprecationWarning, match=r"dreamset\.models\.rssm is now dreamset\.models\.recurrent\.rssm"):
        before = importlib.import_module("dreamset.models.rssm")
    assert before is now
    assert now.__spec__ is not None
    assert now.__spec__.name == "dreamset.models.recurrent.rssm"


def test_current_name_renames_the_longest_match_and_nothing_else() -> None:
    assert current_name("dreamset.models.rssm.RSSM") == "dreamset.models.recurrent.rssm.RSSM"
    assert current_name("dreamset.behaviors.actor.actor_for") == "dreamset.behaviors.actor_critic.actors.actor_for"
    spread = "dreamset.behaviors.rewards.spreads.MeanDisagreement"  # its module moved elsewhere
    assert current_name("dreamset.models.ensemble.MeanDisagreement") == spread
    assert current_name("dreamset.models.heads.NormalHead") == "dreamset.models.heads.NormalHead"
    assert current_name("dreamset.models.rssmology") == "dreamset.models.rssmology"
