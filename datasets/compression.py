"""Lossless compression of a store's columns, for archives. Sampling from it is several times slower."""

from collections.abc import Callable, Mapping
from typing import Any

from h5py import h5z

from dreamset.core.errors import UserError


def compression_filter(name: str | None) -> dict[str, Any]:
    """Arguments of h5py's ``create_dataset`` for a compression by name; None leaves the columns contiguous.

    Raises:
        UserError: if the name is unknown or its package is not installed.
    """
    if name is None:
        return {}
    if name not in FILTERS:
        raise UserError(f"compression is {name!r}; allowed: {', '.join(FILTERS)} or null; fix the ingest settings")
    return dict(FILTERS[name]())


def available(code: int) -> bool:
    """Whether HDF5 can decode a filter by its registered number; loads those of hdf5plugin if it must."""
    if not h5z.filter_avail(code):
        load_filters()
    return bool(h5z.filter_avail(code))


def load_filters() -> None:
    """Registers the filters of hdf5plugin with HDF5, if the package is installed."""
    try:
        import hdf5plugin  # noqa: F401 - importing it registers the filters
    except ImportError:
        return


def _zstd() -> Mapping[str, Any]:
    plugin = _plugin("zstd")
    return {"compression": plugin.Zstd(clevel=3), "shuffle": True}


def _lz4() -> Mapping[str, Any]:
    plugin = _plugin("lz4")
    return {"compression": plugin.Blosc(cname="lz4", clevel=5, shuffle=plugin.Blosc.SHUFFLE)}


def _plugin(name: str) -> Any:
    try:
        import hdf5plugin
    except ImportError:
        raise UserError(
            f"compression={name} needs the package hdf5plugin: pip install 'dreamset[archive]', or use gzip or lzf"
        ) from None
    return hdf5plugin


FILTERS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "lzf": lambda: {"compression": "lzf", "shuffle": True},
    "gzip": lambda: {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "lz4": _lz4,
    "zstd": _zstd,
}
