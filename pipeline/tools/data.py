"""``dreamset data``: inspecting, verifying, scoring, exporting, merging, splitting and labelling datasets."""

import argparse
import json
import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dreamset.core.errors import UserError
from dreamset.datasets.card import summary_markdown
from dreamset.datasets.combine import merge, split
from dreamset.datasets.exports import EXPORTS
from dreamset.datasets.inspection import describe_path
from dreamset.datasets.labelled import LABELLED
from dreamset.datasets.layout import MANIFEST
from dreamset.datasets.recognition import Recognized, recognize
from dreamset.datasets.store import Store
from dreamset.datasets.summary import label_error
from dreamset.pipeline.arguments import ArgumentParser
from dreamset.pipeline.config.mistakes import override_text
from dreamset.pipeline.files import write_csv
from dreamset.pipeline.progress import counter
from dreamset.pipeline.tools import own_dataset

if TYPE_CHECKING:
    from dreamset.pipeline.evaluation.disagreement import EpisodeScore

log = logging.getLogger(__name__)

Tools: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"

STORE = "folder of a store, which contains dataset.json"
WORLD_MODEL = "folder of a saved world model with an ensemble, such as runs/world_model/reconstruction-0/model"


def parser() -> ArgumentParser:
    """The parser of the tools and their options."""
    parser = ArgumentParser(
        prog="dreamset data", description="Inspect, verify, score, export, merge, split and label datasets."
    )
    tools = parser.add_subparsers(title="tools", metavar="TOOL", required=True)
    for add in (_add_inspect, _add_verify, _add_card, _add_score, _add_export, _add_merge, _add_split, _add_label):
        add(tools)
    return parser


def _add_inspect(tools: Tools) -> None:
    inspect = _tool(tools, "inspect", "show the content of a store, or of HDF5, npz or parquet files", _inspect)
    inspect.add_argument("path", type=Path, help="folder of a store, a file, or a folder of files")
    inspect.add_argument(
        "--save",
        metavar="NAME",
        help="write configs/dataset/NAME.yaml, which reads the data; every stage then takes dataset=NAME",
    )


def _add_verify(tools: Tools) -> None:
    verify = _tool(tools, "verify", "compare all files of stores with their checksums", _verify)
    verify.add_argument("stores", type=Path, nargs="+", metavar="STORE", help=STORE)


def _add_card(tools: Tools) -> None:
    card = _tool(tools, "card", "write the dataset card: a page with counts, returns and example images", _card)
    card.add_argument("store", type=Path, help=STORE)
    card.add_argument("--output", type=Path, required=True, help="folder of the card; an earlier card is replaced")
    card.add_argument(
        "--world-model", type=Path, metavar="FOLDER", help=f"{WORLD_MODEL}; adds a histogram of its disagreement"
    )


def _add_score(tools: Tools) -> None:
    score = _tool(
        tools, "score", "show which episodes would teach a world model most, by its ensemble's disagreement", _score
    )
    score.add_argument("store", type=Path, help=STORE)
    score.add_argument("--world-model", type=Path, metavar="FOLDER", required=True, help=WORLD_MODEL)
    score.add_argument("--csv", type=Path, metavar="FILE", help="write the scores of all episodes")
    score.add_argument(
        "--show",
        type=int,
        default=5,
        metavar="N",
        help="episodes of the highest and of the lowest score in the table; default: %(default)s",
    )


def _add_export(tools: Tools) -> None:
    export = _tool(
        tools, "export", "write a store in another format, which can be ingested again without loss", _export
    )
    export.add_argument("store", type=Path, help=STORE)
    export.add_argument("--to", choices=sorted(EXPORTS), required=True, help="the format")
    export.add_argument("--output", type=Path, required=True, help="new folder")


def _add_merge(tools: Tools) -> None:
    merging = _tool(
        tools, "merge", "merge stores with the same columns; every episode stays in training or validation", _merge
    )
    merging.add_argument("stores", type=Path, nargs="+", metavar="STORE", help=STORE)
    merging.add_argument("--output", type=Path, required=True, help="new folder of the merged store")


def _add_split(tools: Tools) -> None:
    splitting = _tool(tools, "split", "split the episodes of a store at random into several stores", _split)
    splitting.add_argument("store", type=Path, help=STORE)
    splitting.add_argument(
        "shares",
        nargs="+",
        metavar="NAME=SHARE",
        help="names of the new stores and their shares of episodes, e.g. pretrain=0.8 adapt=0.2",
    )
    splitting.add_argument(
        "--output", type=Path, required=True, help="new folder, with one subfolder for each new store"
    )
    splitting.add_argument("--seed", type=int, default=0, help="seed of the random split; default: %(default)s")


def _add_label(tools: Tools) -> None:
    labelling = _tool(
        tools, "label-actions", "fill in the actions of episodes that have none, by an inverse dynamics model", _label
    )
    labelling.add_argument("store", type=Path, help=STORE)
    labelling.add_argument(
        "--policy",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="folder of a saved policy that labels actions, such as one of behavior=inverse_dynamics",
    )
    labelling.add_argument(
        "--world-model",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="folder of the world model that the policy was learned in, whose states need no actions",
    )
    labelling.add_argument("--output", type=Path, required=True, help="new folder of the labelled store")
    labelling.add_argument("--seed", type=int, default=0, help="seed of a model that samples; default: %(default)s")


def _tool(
    tools: Tools,
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], None],
) -> ArgumentParser:
    parser = tools.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _print(text: str) -> None:
    print(text)  # noqa: T201 - output of the tools


def _inspect(options: argparse.Namespace) -> None:
    if (options.path / MANIFEST).is_file():
        _print(summary_markdown(Store.open(options.path)))
        return
    found = recognize(options.path)
    if options.save is not None:
        _print(own_dataset.save(found, options.path, options.save))
        return
    _print(describe_path(options.path))
    if found is not None:
        _print("\n".join(_how_to_ingest(found, options.path)))


def _how_to_ingest(found: Recognized, path: Path) -> list[str]:
    """The commands that keep the settings and that read the data, and what to check first."""
    check = "; columns are chosen by their names, so check them" if found.guessed else ""
    overrides = [override_text(f"dataset.{key}", value) for key, value in found.settings.items()]
    return [
        "",
        f"this looks like {found.name}{check}. To keep the settings in a file of your own, for all stages:",
        f"  dreamset data inspect {shlex.quote(str(path))} --save NAME",
        "to ingest the data without one:",
        f"  {' '.join(['dreamset ingest', f'dataset={found.dataset}', *overrides])}",
    ]


def _verify(options: argparse.Namespace) -> None:
    for path in options.stores:
        store = Store.open(path)
        with counter(description=f"verify {path}", total=len(store.info["shards"]), unit="shard") as count:
            store.verify(on_shard=count)
        _print(f"{path}: {len(store.info['shards'])} shards match their checksums, digest {store.digest}")


def _card(options: argparse.Namespace) -> None:
    from dreamset.pipeline.report.card import PAGE, write_card  # loads matplotlib

    store = Store.open(options.store)
    disagreement = None if options.world_model is None else [score.mean for score in _scores(store, options)]
    write_card(store, options.output, disagreement)
    _print(f"{options.output / PAGE}")


def _score(options: argparse.Namespace) -> None:
    from dreamset.pipeline.report import disagreement_table

    if options.show < 1:
        raise UserError(f"--show is {options.show}; allowed: 1 or more")
    store = Store.open(options.store)
    scores = _scores(store, options)
    _print(disagreement_table.text(store, scores, most=options.show))
    if options.csv is not None:
        write_csv(options.csv, disagreement_table.rows(store, scores))
        _print(f"{options.csv}: {len(scores)} episodes")


def _scores(store: Store, options: argparse.Namespace) -> "Sequence[EpisodeScore]":
    from dreamset.pipeline.evaluation.disagreement import episode_scores  # loads the world models

    with counter(description=f"score {store.path}", total=len(store.lengths)) as count:
        return episode_scores(store, options.world_model, on_episode=count)


def _export(options: argparse.Namespace) -> None:
    store = Store.open(options.store)
    _require_absent(options.output)
    with counter(description=f"export to {options.to}", total=len(store.lengths)) as count:
        EXPORTS[options.to](store, options.output, count)
    _print(f"{options.output}: {len(store.lengths)} episodes")


def _merge(options: argparse.Namespace) -> None:
    _require_absent(options.output)
    total = sum(len(Store.open(path).lengths) for path in options.stores)
    with counter(description="merge", total=total) as count:
        store = merge(options.stores, options.output, on_episode=lambda _: count())
    _print(f"{options.output}: {json.dumps(store.info['counts'])}")


def _split(options: argparse.Namespace) -> None:
    _require_absent(options.output)
    shares = _shares(options.shares)
    with counter(description="split", total=len(Store.open(options.store).lengths)) as count:
        parts = split(options.store, shares, options.output, seed=options.seed, on_episode=lambda _: count())
    for store in parts.values():
        _print(f"{store.path}: {json.dumps(store.info['counts'])}")


def _label(options: argparse.Namespace) -> None:
    from dreamset.pipeline.evaluation import labelling  # loads the world models

    _require_absent(options.output)
    store = Store.open(options.store)
    total = len(store) + len(labelling.checked_episodes(store))
    with counter(description=f"label {store.path}", total=total) as count:
        labelled, error = labelling.label_store(
            store,
            options.output,
            world_model=options.world_model,
            policy=options.policy,
            seed=options.seed,
            on_episode=count,
        )
    facts = labelled.info["source"][LABELLED]
    _print(f"{options.output}: labelled {facts['transitions']} transitions of {facts['episodes']} episodes")
    _print(f"error: {label_error(facts)}")
    if error is not None and error.error >= error.baseline:
        log.warning("the labels are no better than one constant action; train longer, or with more episodes")


def _shares(texts: Sequence[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for text in texts:
        name, _, share = text.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            raise UserError(f"{text!r} is not NAME=SHARE, such as pretrain=0.8; fix it") from None
        if name in ("", "..") or Path(name).name != name:
            raise UserError(f"{name!r} cannot name a folder; choose a plain name")
    if len(shares) < len(texts):
        raise UserError(f"{' '.join(texts)} names a share twice; choose different names")
    return shares


def _require_absent(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already and is not overwritten; remove it or choose another --output")
