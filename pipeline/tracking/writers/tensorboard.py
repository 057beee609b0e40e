"""Writes a run as event files for TensorBoard, without TensorFlow."""

import io
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, summary_v2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from dreamset.pipeline.tracking.names import SEPARATOR
from dreamset.pipeline.tracking.writers.base import Described
from dreamset.pipeline.tracking.writers.written import Run

LONGEST_VIDEO = 200  # frames of an animation, which TensorBoard holds in memory
STATUS = {"FINISHED": api_pb2.STATUS_SUCCESS, "FAILED": api_pb2.STATUS_FAILURE, "KILLED": api_pb2.STATUS_FAILURE}


class TensorBoard:
    """A folder of event files. Stages of a row are beside each other; seeds of a stage share a line of the table."""

    folder = None  # the parts of a run share one

    def __init__(self, root: Path, run: Run, described: Described, _: Mapping[str, str]) -> None:
        part, folder = run.parts[-1], root / _file_name(run.name) / _file_name(described.stage)
        for begun in folder.glob(f"*.{part}"):  # by a delivery that was killed
            begun.unlink()
        self._described = described
        self._parameters: dict[str, Any] = {**described.identity, **described.tags}
        self._file = EventFileWriter(str(folder), filename_suffix=f".{part}")

    def scalars(self, values: Mapping[str, float], step: int, at: int) -> None:
        """Figures at a step."""
        self._add([Summary.Value(tag=name, simple_value=value) for name, value in values.items()], at, step)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """What a person chose: written at the end, because TensorBoard takes them at once."""
        self._parameters |= values

    def image(self, name: str, path: Path, at: int) -> None:
        """A PNG file, as it is."""
        content = path.read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as image:
                size = image.size
        except OSError as error:  # Pillow's error of an unknown format
            raise ValueError(f"{path.name}: {error}") from error
        self._image(name, content, size, at)

    def video(self, name: str, path: Path, at: int) -> None:
        """An MP4 file, as the animated image that TensorBoard can play."""
        try:
            seconds = 1 / imageio.immeta(path, plugin="FFMPEG")["fps"]
            frames = [Image.fromarray(frame) for frame in islice(imageio.imiter(path, plugin="FFMPEG"), LONGEST_VIDEO)]
        except (OSError, ZeroDivisionError) as error:
            raise ValueError(f"{path.name}: {error}") from error
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 * seconds), loop=0)
        self._image(name, file.getvalue(), frames[0].size, at)

    def flush(self) -> None:
        """All of it is on disk now."""
        self._file.flush()

    def close(self, status: str, note: str, at: int) -> None:
        """Writes parameters and description, and closes the file."""
        text = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        content = TensorProto(dtype=DT_STRING, string_val=[note.encode()])
        content.tensor_shape.CopyFrom(TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]))
        self._add([Summary.Value(tag="note", metadata=text, tensor=content)], at)
        described = self._described
        chosen = {name: _typed(value) for name, value in self._parameters.items()}
        trial = f"{described.group}{SEPARATOR}{described.stage}"
        begin = summary_v2.hparams_pb(chosen, trial_id=trial, start_time_secs=described.at / 1000)
        ended = HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS[status], end_time_secs=at / 1000))
        data = SummaryMetadata.PluginData(plugin_name="hparams", content=ended.SerializeToString())
        end = Summary.Value(tag="_hparams_/session_end_info", metadata=SummaryMetadata(plugin_data=data))
        end.tensor.CopyFrom(begin.value[0].tensor)
        self._add([*begin.value, end], at)
        self._file.close()

    def abandon(self) -> None:
        """Closes the file as it is."""
        self._file.close()

    def _image(self, name: str, content: bytes, size: tuple[int, int], at: int) -> None:
        image = Summary.Image(encoded_image_string=content, width=size[0], height=size[1], colorspace=3)
        self._add([Summary.Value(tag=name, image=image)], at)

    def _add(self, values: list[Any], at: int, step: int = 0) -> None:
        self._file.add_event(Event(wall_time=at / 1000, step=step, summary=Summary(value=values)))


def _file_name(name: str) -> str:
    return re.sub(r'[/\\:*?"<>|]', "_", name)


def _typed(text: Any) -> Any:
    """Numbers as numbers, by which TensorBoard's table can be sorted."""
    try:
        return float(text)
    except ValueError:
        return text
