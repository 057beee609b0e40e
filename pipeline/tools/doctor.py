"""``dreamset doctor``: examines this machine and the project in the working folder, and changes neither."""

import ctypes.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, metadata, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from dreamset.core.errors import UserError
from dreamset.pipeline.tracking import address, embedded, outbox, writers

State = Literal["ok", "note", "warning", "error"]
MARKS: dict[str, tuple[str, str]] = {  # state -> mark and colour of a terminal
    "ok": ("ok", "32"),
    "note": ("-", "2"),
    "warning": ("!", "33"),
    "error": ("ERROR", "31"),
}
OLDEST_PYTHON = (3, 11)
LIBRARIES = ("dreamset", "torch", "mlflow", "dvc", "hydra-core", "h5py", "gymnasium", "minari")
EXTRAS = {  # extra -> the distribution that shows whether it is installed, and what it is for
    "dmc": ("dm_control", "DM Control"),
    "mujoco": ("mujoco", "MuJoCo environments of Gymnasium"),
    "minigrid": ("minigrid", "MiniGrid and BabyAI"),
    "ogbench": ("ogbench", "OGBench"),
    "archive": ("hdf5plugin", "HDF5 files with lz4 or zstd"),
    "zarr": ("zarr", "zarr groups"),
    "gpu": ("nvidia-ml-py", "GPU figures in MLflow"),
    "tensorboard": ("tensorboard", "curves in TensorBoard"),
    "wandb": ("wandb", "runs in Weights & Biases"),
}
ENOUGH_GIGABYTES = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    state: State
    text: str
    fix: str = ""  # a command, or what to do; empty if nothing is wrong


def examine() -> list[Finding]:
    """All findings, in the order of the report. A check that fails itself is a warning."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check()
        except Exception as error:  # whatever is broken must not hide the other findings
            name = check.__name__.strip("_").replace("_", " ")
            findings.append(Finding(name, "warning", f"could not be examined: {' '.join(str(error).split())}"))
    return findings


def report(findings: Sequence[Finding], *, color: bool) -> str:
    """The findings as text, one line each and one for each fix, and a summary."""
    indent = max(len(finding.check) for finding in findings) + 2
    lines: list[str] = []
    for finding in findings:
        mark, code = MARKS[finding.state]
        shown = f"\x1b[{code}m{mark:<5}\x1b[0m" if color else f"{mark:<5}"
        lines.append(f"{shown} {finding.check.ljust(indent)}{finding.text}")
        lines += [f"{' ' * (6 + indent)}-> {finding.fix}"] if finding.fix else []
    return "\n".join([*lines, "", _summary(findings)])


def _summary(findings: Sequence[Finding]) -> str:
    errors = sum(finding.state == "error" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if not errors and not warnings:
        return "Everything that the pipeline needs works."
    return f"errors: {errors}, warnings: {warnings}; the arrows say what to do"


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()} in {sys.prefix}, {platform.system()} {platform.machine()}"
    fits = sys.version_info >= OLDEST_PYTHON
    fix = "" if fits else "install Python 3.11 or later, and make a new environment with it"
    yield Finding("python", "ok" if fits else "error", text, fix)


def _libraries() -> Iterator[Finding]:
    versions = {name: _version(name) for name in LIBRARIES}
    for name in [name for name, number in versions.items() if number is None]:
        yield Finding("libraries", "error", f"{name} is missing", f'pip install "{name}"')
    yield Finding("libraries", "ok", ", ".join(f"{name} {number}" for name, number in versions.items() if number))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> Iterator[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("device", "ok", f"cuda: {names}; {threads}")
    elif shutil.which("nvidia-smi"):
        fix = "install a CUDA build of PyTorch: pip install --upgrade torch"
        yield Finding("device", "warning", f"cpu, although nvidia-smi exists; {threads}", fix)
    else:
        yield Finding("device", "ok", f"cpu; {threads}")
    if torch.backends.mps.is_available():
        yield Finding("device", "note", "mps is available, but no stage uses it; device=auto takes the CPU")


def _rendering() -> Iterator[Finding]:
    found = [name for name in ("EGL", "OSMesa") if ctypes.util.find_library(name)]
    chosen = os.environ.get("MUJOCO_GL")
    text = f"libraries for images of MuJoCo: {', '.join(found) or 'none'}; MUJOCO_GL={chosen or '(not set)'}"
    needed = _version("mujoco") is not None and not found and sys.platform.startswith("linux")
    fix = "sudo apt-get install libegl1, and set MUJOCO_GL=egl" if needed else ""
    yield Finding("rendering", "warning" if needed else "ok", text, fix)
    if find_spec("pygame") is None:
        fix = 'pip install "gymnasium[classic-control]"'
        yield Finding("rendering", "error", "pygame, which draws the classic control tasks, is missing", fix)


def _videos() -> Iterator[Finding]:
    import imageio_ffmpeg  # type: ignore[import-untyped] # no types

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
        done = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=10)  # noqa: S603
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        yield Finding(
            "videos", "warning", f"ffmpeg does not run ({error})", "pip install --force-reinstall imageio-ffmpeg"
        )
        return
    works = "libx264" in done.stdout
    fix = "" if works else "pip install --force-reinstall imageio-ffmpeg"
    text = "ffmpeg with libx264" if works else f"{program} has no encoder libx264"
    yield Finding("videos", "ok" if works else "warning", text, fix)


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    enough = free >= ENOUGH_GIGABYTES
    fix = "" if enough else "free some space; `dvc gc --workspace` removes results that nothing refers to"
    yield Finding("disk", "ok" if enough else "warning", f"{free:.1f} GB are free in {Path.cwd()}", fix)
    if not os.access(Path.cwd(), os.W_OK):
        yield Finding("disk", "error", f"{Path.cwd()} is not writable", "change into a folder of your own")


def _tracking() -> Iterator[Finding]:
    server = address.configured()
    if server is not None:
        yield Finding("tracking", "ok", f"{address.VARIABLE} is {address.masked(server)}; not contacted")
    elif not embedded.path().exists():
        yield Finding("tracking", "note", "no MLflow store yet; the first stage that runs makes it")
    else:
        try:
            embedded.require_schema(embedded.path())
            yield Finding("tracking", "ok", f"MLflow store {embedded.path()}")
        except UserError as error:
            yield Finding("tracking", "error", str(error), "move the file away; the next stage makes a new one")
    yield from _waiting(outbox.MLFLOW, "start the server; `dreamset ui` or the next stage sends the reports")


def _writers() -> Iterator[Finding]:
    chosen = writers.chosen()
    if not chosen:
        yield Finding(
            "writers", "note", f"none beside MLflow; {writers.VARIABLE}={','.join(writers.WRITERS)} adds them"
        )
    for name in chosen:
        advice = writers.missing(name)
        if advice is not None:
            yield Finding("writers", "warning", f"{name} is not installed; its reports wait", install_command(name))
            continue
        yield Finding("writers", "ok", f"{writers.WRITERS[name].title}: {writers.FOLDER / name}")
        yield from _waiting(name, "remove the cause; the next stage sends the reports")


def _waiting(receiver: str, fix: str) -> Iterator[Finding]:
    """The reports in the outbox that a receiver has still to get."""
    folder, check = embedded.FOLDER / "outbox", "tracking" if receiver == outbox.MLFLOW else "writers"
    waiting, failure = len(list(outbox.waiting(folder, receiver))), outbox.failure(folder, receiver)
    if failure.exists():
        text = f"{waiting} reports wait in {folder}: {address.masked(failure.read_text().strip())}"
        yield Finding(check, "warning", text, fix)
    elif waiting:
        yield Finding(check, "note", f"{waiting} reports of stages are being sent, or wait for the next stage")


def _data() -> Iterator[Finding]:
    stores = sorted(path.parent.name for path in Path("data/stores").glob("*/dataset.json"))
    if stores:
        yield Finding("data", "ok", f"stores: {', '.join(stores)}")
    else:
        yield Finding(
            "data", "note", "no store yet in data/stores", "dvc repro, or: dreamset collect && dreamset ingest"
        )


def _stages() -> Iterator[Finding]:
    """Whether DVC has the stages of this release: a stage of an earlier one waits for files that nobody writes."""
    own = Path("dvc.yaml")
    template = Path(str(files("dreamset.pipeline.tools"))) / "project" / own
    if own.exists() and own.read_bytes() != template.read_bytes():
        text = "dvc.yaml differs from that of this release; `dvc repro` fails if its outputs do"
        fix = f"after an update, unless you have changed it: cp {shlex.quote(str(template))} dvc.yaml"
        yield Finding("project", "warning", text, fix)


def _project() -> Iterator[Finding]:
    params = Path("params.yaml")
    if not params.exists():
        text = f"{Path.cwd()} has no params.yaml; single stages run here, `dvc repro` does not"
        yield Finding("project", "note", text, "dreamset init, or change into the project's folder")
        return
    from dreamset.pipeline.config.groups import groups
    from dreamset.pipeline.config.mistakes import wrong_name
    from dreamset.pipeline.stages.resolve import read_params

    try:
        choices = read_params(params)
    except UserError as error:
        yield Finding("project", "error", str(error), "edit params.yaml")
        return
    known = groups()
    chosen = [("dataset", choices.dataset), ("preset", choices.preset)]
    chosen += [("objective", name) for name in choices.objectives]
    wrong = [wrong_name(group, name, known[group]) for group, name in chosen if name not in known[group]]
    for text in wrong:
        yield Finding("project", "error", f"params.yaml: {text}", "edit params.yaml")
    if not wrong:
        yield Finding(
            "project", "ok", f"params.yaml: {choices.dataset}, {choices.preset}, {', '.join(choices.objectives)}"
        )
    yield from _stages()
    yield from _repositories()


def _repositories() -> Iterator[Finding]:
    above = (Path.cwd(), *Path.cwd().parents)
    if not any((folder / ".dvc").exists() for folder in above):
        yield Finding("project", "error", "no DVC repository, which `dvc repro` needs", "dvc init --no-scm")
    if not any((folder / ".git").exists() for folder in above):
        yield Finding(
            "project", "note", "no git repository; `dvc exp` and versions need one", "git init && dvc init -f"
        )


def _extras() -> Iterator[Finding]:
    offered = set(metadata("dreamset").get_all("Provides-Extra") or ())
    missing = {name: use for name, (library, use) in EXTRAS.items() if name in offered and _version(library) is None}
    installed = [name for name in EXTRAS if name in offered and name not in missing]
    yield Finding("extras", "ok", f"installed: {', '.join(installed) or 'none'}")
    for name, use in missing.items():
        yield Finding("extras", "note", f"{name} ({use}) is not installed", install_command(name))


def install_command(extra: str) -> str:
    """The command that adds an extra to this installation, from the folder that it came from if there is one."""
    origin = json.loads(distribution("dreamset").read_text("direct_url.json") or "{}")
    url = origin.get("url", "")
    if not url.startswith("file://"):
        return f'pip install "dreamset[{extra}]"'
    folder = Path(unquote(urlsplit(url).path))
    place = "." if folder == Path.cwd() else str(folder)
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f'pip install {editable}"{place}[{extra}]"'


CHECKS: Sequence[Callable[[], Iterator[Finding]]] = (
    _python,
    _libraries,
    _device,
    _rendering,
    _videos,
    _disk,
    _tracking,
    _writers,
    _data,
    _project,
    _extras,
)
