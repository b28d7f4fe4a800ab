"""Worker processes of a loader: each fetches every n-th batch ahead of time.

Input: the positions and indices of batches, sent to a worker through its own pipe; output: the batches, handed out in order.
A worker's exception is raised in the program with the worker's traceback; a worker that dies is noticed and named.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import flambeau as torch

# multiprocessing and its like are imported where they are used: most programs load in their own process


class WorkerInfo:
    """What a worker process knows about itself.

    Attributes
    ----------
    id, num_workers
        Its number, and how many there are: what an ``IterableDataset`` needs to read its own part only.
    seed
        The seed of its random numbers.
    dataset
        Its copy of the dataset.
    """

    def __init__(self, id: int, num_workers: int, seed: int, dataset: Any) -> None:
        self.id, self.num_workers, self.seed, self.dataset = id, num_workers, seed, dataset

    def __repr__(self) -> str:
        return f"WorkerInfo(id={self.id}, num_workers={self.num_workers}, seed={self.seed}, dataset={self.dataset})"


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker process, what it knows about itself; None in the program's own process."""
    return _info


class _End:
    """A worker's stream has no more samples."""


class _Failure:
    """An exception in a worker, as its type and the text of its traceback."""

    def __init__(self, error: BaseException, worker: int) -> None:
        import traceback

        self.kind = type(error)
        self.text = (
            f"Caught {self.kind.__name__} in DataLoader worker process {worker}.\nOriginal {''.join(traceback.format_exception(error))}"
        )

    def error(self) -> BaseException:
        """The exception to raise in the program."""
        try:
            return self.kind(self.text)
        except TypeError:      # its constructor wants something else
            return RuntimeError(self.text)


def _work(connection: Any, make_fetch: Callable[[Any], Callable[[Any], Any]], info: WorkerInfo, init: Callable[[int], None] | None) -> None:
    """The worker process: fetch what is asked for until None comes."""
    global _info
    import queue
    import random
    import threading

    _info = info
    random.seed(info.seed)
    torch.manual_seed(info.seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(info.seed % 2**32)
    torch.set_num_threads(1)

    # read by a thread, so that the program never waits to ask while this process waits to answer
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        try:
            while (task := connection.recv()) is not None:
                tasks.put(task)
        except (EOFError, OSError):
            pass      # the program has gone
        tasks.put(None)

    threading.Thread(target=read, daemon=True).start()
    fetch: Callable[[Any], Any] | None = None
    try:
        while (task := tasks.get()) is not None:
            place, indices = task
            try:
                if indices is _End:        # a new epoch of a persistent worker
                    fetch = None
                    continue
                if fetch is None:
                    if init is not None:
                        init(info.id)
                        init = None
                    fetch = make_fetch(info.dataset)
                result = fetch(indices)
            except StopIteration:
                result = _End()
            except Exception as error:
                result = _Failure(error, info.id)
            try:
                connection.send((place, result))
            except Exception as error:     # the batch cannot be pickled
                connection.send((place, _Failure(error, info.id)))
    except (KeyboardInterrupt, BrokenPipeError):
        pass


class WorkerPool:
    """The running processes of one loader."""

    def __init__(self, loader: Any, base_seed: int, make_fetch: Callable[[Any], Callable[[Any], Any]]) -> None:
        import multiprocessing

        context = loader.multiprocessing_context
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context)
        torch._flush()      # forked copies of a tensor need its value, not the work that is to compute it
        self.method = context.get_start_method()
        self.timeout = loader.timeout
        self.connections: list[Any] = []
        self.processes: list[Any] = []
        for number in range(loader.num_workers):
            mine, theirs = context.Pipe()
            info = WorkerInfo(number, loader.num_workers, base_seed + number, loader.dataset)
            process = context.Process(target=_work, args=(theirs, make_fetch, info, loader.worker_init_fn), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)      # about forking with threads: the worker does not use them
                process.start()
            theirs.close()
            self.connections.append(mine)
            self.processes.append(process)

    def ask(self, worker: int, place: int, indices: Any) -> None:
        """Send a task."""
        try:
            self.connections[worker].send((place, indices))
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None

    def answers(self) -> list[tuple[int, Any]]:
        """Wait for at least one answer."""
        from multiprocessing.connection import wait

        ready: list[Any] = wait(self.connections, self.timeout or None)
        if not ready:
            raise RuntimeError(f"DataLoader timed out after {self.timeout} seconds")
        try:
            return [connection.recv() for connection in ready]
        except (EOFError, ConnectionResetError):
            raise self._died() from None

    def _died(self) -> RuntimeError:
        for process in self.processes:
            process.join(timeout=0.5)
        dead = [process for process in self.processes if process.exitcode is not None]
        pids = ", ".join(str(process.pid) for process in dead)
        code = dead[0].exitcode if dead else None
        if self.method != "fork" and code == 1:
            why = (
                "DataLoader worker died at start: workers re-import your script, so the code that runs must be under "
                "if __name__ == '__main__':, or use num_workers=0."
            )
        elif code is not None and code < 0:
            why = f"It was killed by signal {-code} (out of memory?). Use fewer workers, or num_workers=0 to load in this process."
        else:
            why = "Use num_workers=0 to see the error in this process; under spawn keep the running code under if __name__ == '__main__':."
        return RuntimeError(f"DataLoader worker (pid(s) {pids}) exited unexpectedly\n{why}")

    def close(self) -> None:
        """Stop the processes."""
        for connection in self.connections:
            try:
                connection.send(None)
            except OSError:
                pass
            connection.close()
        for process in self.processes:
            process.join(timeout=2)
            if process.is_alive():
                process.terminate()
                process.join()
        self.connections, self.processes = [], []


class WorkerEpoch(Iterator[Any]):
    """One pass over a loader with worker processes."""

    def __init__(self, loader: Any, pool: WorkerPool, indices: Iterator[Any], prefetch: int, keep: bool) -> None:
        self._length = lambda: len(loader._index_sampler)
        self._pool = pool
        self._indices = indices
        self._keep = keep
        self._workers = loader.num_workers
        self._active = set(range(self._workers))
        self._turn = 0
        self._asked: dict[int, int] = {}        # position of a batch -> worker
        self._arrived: dict[int, Any] = {}
        self._sent = self._handed = 0
        for worker in self._active if keep else ():
            pool.ask(worker, -1, _End)
        for _ in range(prefetch * loader.num_workers):
            self._ask()

    def _ask(self) -> None:
        """Ask the next worker in turn for the next batch, if there is one."""
        if not self._active:
            return
        try:
            indices = next(self._indices)
        except StopIteration:
            return
        while (worker := self._turn % self._workers) not in self._active:
            self._turn += 1
        self._turn += 1
        self._asked[self._sent] = worker
        self._pool.ask(worker, self._sent, indices)
        self._sent += 1

    def __next__(self) -> Any:
        while self._handed < self._sent:
            while self._handed not in self._arrived:
                self._arrived.update(self._pool.answers())
            result = self._arrived.pop(self._handed)
            worker = self._asked.pop(self._handed)
            self._handed += 1
            if isinstance(result, _End):
                self._active.discard(worker)
            self._ask()
            if isinstance(result, _End):
                continue
            if isinstance(result, _Failure):
                raise result.error()
            return result
        self._finish()
        raise StopIteration

    def _finish(self) -> None:
        if not self._keep:
            self._pool.close()

    def __len__(self) -> int:
        return self._length()

    def __del__(self) -> None:
        while self._keep and self._handed + len(self._arrived) < self._sent and self._pool.processes:
            self._arrived.update(self._pool.answers())      # of a pass that was left: the next one must not meet them
        self._finish()
