"""Prepares the next batches in threads while the current batch is trained on."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

from dreamset.core.errors import UserError
from dreamset.core.records import SequenceBatch
from dreamset.datasets.stream import BatchStream


class Prefetcher:
    """Delivers the batches of ``stream`` on ``device`` in order and prepares ``depth`` of them in advance.

    Batch k is a function of k, so ``depth`` and ``workers`` do not change the batches. The state is the one after the
    last batch that ``sample`` returned. On a CUDA device, batches are copied from page-locked memory on a separate CUDA
    stream while the device computes; images stay ``uint8``.

    The default is one thread: copying a batch takes milliseconds, a training step tens to hundreds of milliseconds, and
    on a CPU each further thread takes a core from the training step. More threads help if reading from a cold disk is
    slower than the training step.

    Threads only wait for their current copy, so interrupts and the end of the program do not hang. A failed batch
    raises in ``sample``, on every call. Call ``close``, use ``with``, or drop the object.
    """

    def __init__(self, stream: BatchStream, *, device: torch.device, depth: int = 2, workers: int = 1) -> None:
        if depth < 1 or workers < 1:
            raise UserError(f"prefetching has depth {depth} and {workers} workers; allowed: 1 or more each")
        self._stream = stream
        self._delivery: _Delivery = _CudaDelivery(device) if device.type == "cuda" else _PlainDelivery(device)
        self._depth = depth
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        self._ahead: deque[Future[_Sent]] = deque()  # batches next_number, next_number + 1, ...
        self._next_number = stream.next_number

    def sample(self) -> SequenceBatch:
        """The next batch, on the device and in its own memory."""
        self._top_up()
        sent = self._ahead[0].result()
        self._ahead.popleft()
        self._next_number += 1
        self._top_up()
        return self._delivery.receive(sent)

    def state_dict(self) -> dict[str, Any]:
        """The state of a stream at the same batch; a stream can load it, and the other way round."""
        return {"next_number": self._next_number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state`` was taken."""
        self._drop_ahead()
        self._next_number = state["next_number"]

    def close(self) -> None:
        """Ends the threads and drops the batches prepared in advance."""
        self._drop_ahead()
        self._executor.shutdown(cancel_futures=True)

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _top_up(self) -> None:
        while len(self._ahead) < self._depth:
            number = self._next_number + len(self._ahead)
            # no reference to self: garbage collection of a dropped prefetcher must end its threads
            self._ahead.append(self._executor.submit(_make, self._stream, self._delivery, number))

    def _drop_ahead(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()


_Sent = tuple[SequenceBatch, Any]  # a batch in transfer and the event of its arrival


class _Delivery(Protocol):
    """Transfers a batch from a worker to the consumer's device."""

    pinned: bool

    def send(self, batch: SequenceBatch) -> _Sent:
        """Called by a worker."""

    def receive(self, sent: _Sent) -> SequenceBatch:
        """Called by the consumer."""


class _PlainDelivery:
    pinned = False

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def send(self, batch: SequenceBatch) -> _Sent:
        return batch, None

    def receive(self, sent: _Sent) -> SequenceBatch:
        return sent[0].to(self._device)


class _CudaDelivery:
    """Copies on a side stream. Both allocators keep the memory until the copy and all uses of its result are done."""

    pinned = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)

    def send(self, batch: SequenceBatch) -> _Sent:
        with torch.cuda.stream(self._side):
            return batch.to(self._device), self._side.record_event()

    def receive(self, sent: _Sent) -> SequenceBatch:
        batch, arrived = sent
        consumer = torch.cuda.current_stream(self._device)
        consumer.wait_event(arrived)

        def keep(value: Tensor) -> Tensor:
            value.record_stream(consumer)  # allocated on the side stream, used on this one
            return value

        return batch.map(keep)


def _make(stream: BatchStream, delivery: _Delivery, number: int) -> _Sent:
    return delivery.send(stream.batch(number, pinned=delivery.pinned))
