"""Saved views of MLflow's pages: the columns, order and widths with which the rows open."""

import json
from typing import Any

from dreamset.pipeline.tracking import names

SHARE_KEY = "dreamset"
TAG = f"mlflow.sharedViewState.{SHARE_KEY}"  # where MLflow 3 keeps a view that a link can name
NAME_WIDTH, COLUMN_WIDTH = 360, 150  # in pixels; MLflow's own width cuts a row's name at 20 characters
RETURN = f"metrics.`{names.HEADLINES}/return_iqm`"
COLUMNS = (
    RETURN,
    f"metrics.`{names.HEADLINES}/reward_error_h15`",
    f"metrics.`{names.HEADLINES}/probe_r2`",
    "params.`objective`",
    "params.`dataset`",
    "params.`preset`",
    "params.`seed`",
)
_FIXED = ("attributes.`Run Name`", "runDateAndNestInfo")  # columns that MLflow always shows


def table(base: str, experiment: str) -> str:
    """The address of the rows as a table, with the columns of the view, for a server at ``base``."""
    page = f"{base.rstrip('/')}/#/experiments/{experiment}/runs"
    return f"{page}?workflowType=machine_learning&viewStateShareKey={SHARE_KEY}"


def chart(base: str, experiment: str) -> str:
    """The address of the rows as charts."""
    return f"{table(base, experiment)}&compareRunsMode=CHART"


def models(base: str) -> str:
    """The address of the registered models."""
    return f"{base.rstrip('/')}/#/models?workflowType=machine_learning"


def save(client: Any, experiment: str) -> None:
    """Stores the view in the experiment; a second call changes nothing."""
    state = json.dumps(_state())
    if client.get_experiment(experiment).tags.get(TAG) != state:
        client.set_experiment_tag(experiment, TAG, state)


def _state() -> dict[str, Any]:
    widths = {_FIXED[0]: NAME_WIDTH, **dict.fromkeys((_FIXED[1], *COLUMNS), COLUMN_WIDTH)}
    return {
        "orderByKey": RETURN,
        "orderByAsc": False,
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*_FIXED, *COLUMNS],
        "columnWidths": widths,
    }
