"""The load of the machine while a stage runs, by the names that MLflow's tab for system metrics expects."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from dreamset.core.errors import UserError

VARIABLE = "DREAMSET_SYSTEM_METRICS"
FIRST_SECONDS = 0.5  # before the first sample, so that short stages have one
SECONDS = 5.0  # between two samples
MEGABYTE = 1e6

log = logging.getLogger(__name__)


def enabled() -> bool:
    """Whether the load is recorded.

    Raises:
        UserError: if the environment variable is neither ``on`` nor ``off``.
    """
    value = os.environ.get(VARIABLE, "on")
    if value not in ("on", "off"):
        raise UserError(f"{VARIABLE} is {value!r}; allowed: on, off; change the variable")
    return value == "on"


@contextmanager
def sampled(report: Callable[[Mapping[str, float], int], None]) -> Iterator[None]:
    """Calls ``report(values, number)`` every few seconds from a thread, as long as the block runs."""
    ended = threading.Event()
    thread = threading.Thread(target=_sample, args=(report, ended), name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=1.0)


def _sample(report: Callable[[Mapping[str, float], int], None], ended: threading.Event) -> None:
    """Samples until the block has ended. An error ends the samples and nothing else."""
    try:
        psutil.cpu_percent()  # the first value is always 0
        start, gpus, number = psutil.net_io_counters(), _gpus(), 0
        while not ended.wait(SECONDS if number else FIRST_SECONDS):
            report(_machine(start) | _gpu_load(gpus), number)
            number += 1
    except Exception as error:  # a container without these counters
        log.debug("system metrics end: %s", error)


def _machine(start: Any) -> dict[str, float]:
    memory, disk, network = psutil.virtual_memory(), psutil.disk_usage("."), psutil.net_io_counters()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
        "process_memory_usage_megabytes": psutil.Process().memory_info().rss / MEGABYTE,
        "disk_usage_percentage": disk.percent,
        "disk_available_megabytes": disk.free / MEGABYTE,
    }
    if start is not None and network is not None:
        values["network_receive_megabytes"] = (network.bytes_recv - start.bytes_recv) / MEGABYTE
        values["network_transmit_megabytes"] = (network.bytes_sent - start.bytes_sent) / MEGABYTE
    return {f"system/{name}": round(float(value), 3) for name, value in values.items()}


def _gpus() -> list[Any]:
    """Handles of all GPUs; none without the package nvidia-ml-py or a driver."""
    with suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return []


def _gpu_load(gpus: list[Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for index, gpu in enumerate(gpus):
        import pynvml

        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        values[f"system/gpu_{index}_utilization_percentage"] = float(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
        values[f"system/gpu_{index}_memory_usage_megabytes"] = memory.used / MEGABYTE
        values[f"system/gpu_{index}_memory_usage_percentage"] = 100 * memory.used / memory.total
    return values
