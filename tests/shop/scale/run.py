"""The run: publish leg after leg while workers are killed, then compare what came of it with plain addition.

Its folder holds all that it needs to go on. After each leg the embedded AWS is stopped, its state copied, and started
again, with whatever is then in its queues. A run that is stopped (SIGINT, SIGTERM) publishes the leg that it was in
once more; one whose machine died goes on from the last copy.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from offload.cli.audit.events import audit
from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment
from offload.cli.deployment.status import depth, depths
from offload.cli.events.dead_letters import FUNCTION_DIED, DeadLetters, Wanted
from offload.cli.events.publishing import publisher_of
from offload.cli.local.process import EmbeddedAws, free_port
from offload.cli.local.up import bring_up
from offload.client.publisher import Publisher
from offload.client.signals import set_by_signals
from offload.contracts.events.entry import Entry, answered, requests
from offload.contracts.events.event import Event
from offload.runtime.reasons import Reason
from shop.commands.ledger import ledger_of
from shop.contracts.orders import OrderCancelled, OrderPlaced
from shop.ledger import Ledger
from tests.killed_workers import workers_killed_as_work_is_done
from tests.shop.deployed_figures import done_by, levels_of
from tests.shop.plain_ledger import added_up
from tests.shop.scale.plan import Plan, Publication
from tests.shop.scale.poison import READERS, Poison, letters_of, number_in

# What a killed worker had of it comes back after five minutes; it is told of low stock alone.
_NOT_WAITED_FOR: Final = "TeamNotifier"
_PORTION: Final = 200
_DEEPEST: Final = 2_000
_POLL: Final = 0.5
_SETTLED_WITHIN: Final = 3_600.0
_REDRIVES: Final = 5
_KILLED: Final = (Reason.RETRIES_EXHAUSTED, FUNCTION_DIED)
_ALL: Final = 1_000_000
_DIFFERENCES_SHOWN: Final = 20
_MIB: Final = 1024 * 1024


@dataclass
class Progress:
    """How far a run is, as its folder keeps it."""

    legs: int = 0
    """Legs that were published whole."""
    seconds: float = 0.0
    """How long it ran, its stops left out."""
    killed: int = 0
    redriven: int = 0
    """Dead letters of good events that were sent again, as an operator would."""
    starts: int = 0
    """How often the embedded AWS was started."""
    generation: str = ""
    """The data of the embedded AWS that all this is about."""


@dataclass
class Result:
    """What came of a run. It is exact when `differences` is empty."""

    orders: int
    repeats: int
    poison: int
    progress: Progress
    differences: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The result as JSON."""
        return {**asdict(self), "exact": not self.differences}


class Stopped(Exception):
    """The run was told to stop; it goes on where it was when it is started again."""


class Run:
    """One run of a plan in a folder. A worker is killed for `kill_every` orders done; `say` is told how far it is."""

    def __init__(self, folder: Path, plan: Plan, *, kill_every: int, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.plan = plan
        self._kill_every = kill_every
        self._say = say
        self._embedded = EmbeddedAws(folder / "embedded", port=free_port())
        self._published = 0
        self._passed = 0
        """Events that were published and are in no queue any more, as far as this process has seen."""
        self._put = 0
        self._stop = threading.Event()

    def go(self, brought_up: Path | None = None) -> Result:
        """Runs what is left of the plan.

        `brought_up` is the folder of an embedded AWS, stopped, that has the app on it; without it the app is deployed.
        Raises Failure, and Stopped when the process was told to stop. Whatever ends it, the embedded AWS is stopped.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure(f"another run is at work in {self.folder}: wait for its end") from None
            return self._go(brought_up)

    def _go(self, brought_up: Path | None) -> Result:
        self._check_plan()
        progress = self._read()
        try:
            with set_by_signals(self._stop):
                deployment = self._start(progress, brought_up)
                for number in range(progress.legs, self.plan.legs):
                    with self._working(deployment, progress, seed=number):
                        self._publish(deployment, number)
                    progress.legs = number + 1
                    if number + 1 < self.plan.legs:
                        deployment = self._checkpoint(progress)
                    else:
                        self._write(progress)
                with self._working(deployment, progress, seed=self.plan.legs):
                    few = min(_DEEPEST, self.plan.orders) // 10
                    self._until(lambda: self._deepest(deployment) < few, "the queues to be nearly empty")
                self._settle(deployment, progress)
                self._write(progress)
                return self._compared(deployment, progress)
        finally:
            self._embedded.stop()

    # -- the folder

    def _check_plan(self) -> None:
        file, plan = self.folder / "plan.json", asdict(self.plan)
        if not file.exists():
            file.write_text(json.dumps(plan))
        elif json.loads(file.read_text()) != plan:
            raise Failure(f"{file} has another plan: name another folder, or delete this one to begin again")

    def _read(self) -> Progress:
        file = self.folder / "progress.json"
        return Progress(**json.loads(file.read_text())) if file.exists() else Progress()

    def _write(self, progress: Progress) -> None:
        draft = self.folder / "progress.draft"
        draft.write_text(json.dumps(asdict(progress)))
        draft.replace(self.folder / "progress.json")

    def _start(self, progress: Progress, brought_up: Path | None) -> Deployment:
        root, copy = self._embedded.root, self.folder / "checkpoint"
        if not progress.starts:
            shutil.rmtree(root, ignore_errors=True)
            if brought_up is None:
                self._say("deploying the app to an embedded AWS")
                bring_up(self._embedded)
            else:
                shutil.copytree(brought_up, root, symlinks=True)
        instance = self._embedded.start()
        if progress.generation not in {"", instance.generation}:
            self._say(f"the embedded AWS lost its state: it goes on from the copy after leg {progress.legs}")
            self._embedded.stop()
            shutil.rmtree(root)
            shutil.copytree(copy, root, symlinks=True)
            instance = self._embedded.start()
        self._embedded.await_durable_runner(instance)
        progress.generation = instance.generation
        progress.starts += 1
        self._write(progress)
        deployment = Deployment(Aws(LOCAL, instance))
        leave_out_archives_and_logs(deployment)
        return deployment

    def _checkpoint(self, progress: Progress) -> Deployment:
        began = time.monotonic()
        stopped = self._embedded.stop()
        if stopped is None or not stopped.clean:
            raise Failure(f"the embedded AWS did not write its state; its log: {self._embedded.log}")
        draft, copy = self.folder / "checkpoint.draft", self.folder / "checkpoint"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(self._embedded.root, draft, symlinks=True)
        shutil.rmtree(copy, ignore_errors=True)
        draft.rename(copy)
        self._write(progress)
        deployment = self._start(progress, None)
        self._say(f"leg {progress.legs} of {self.plan.legs} is kept, after {time.monotonic() - began:.0f} s")
        return deployment

    # -- the work

    @contextmanager
    def _working(self, deployment: Deployment, progress: Progress, *, seed: int) -> Iterator[None]:
        """Workers are killed and samples taken while the body runs; the time counts."""
        began, ended = time.monotonic() - progress.seconds, threading.Event()

        def sample() -> None:
            while not ended.wait(min(10.0, self.plan.orders / 100)):
                self._sample(deployment, time.monotonic() - began)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            with workers_killed_as_work_is_done(
                self._embedded, lambda: self._passed, every=self._kill_every, seed=seed
            ) as killed:
                yield
        finally:
            ended.set()
            sampler.join()
            progress.seconds = time.monotonic() - began
            progress.killed += len(killed)

    def _publish(self, deployment: Deployment, number: int) -> None:
        publications = self.plan.publications(number, deployment.bucket("Claims"))
        publisher = publisher_of(deployment)
        self._published = 0
        for start in range(0, len(publications), _PORTION):
            self._go_on_unless_stopped()
            self._until(lambda: self._deepest(deployment) < _DEEPEST, "the queues to be shorter")
            portion = publications[start : start + _PORTION]
            publish(deployment, publisher, portion)
            self._published += len(portion)
            self._put += len(portion)

    def _settle(self, deployment: Deployment, progress: Progress) -> None:
        """Waits for the last of them; what the killing made a dead letter of is sent again, and waited for too."""
        began = time.monotonic()
        for _ in range(_REDRIVES):
            self._until(lambda: self._left(deployment) == 0, "the queues to be empty")
            letters = DeadLetters(deployment.aws.sqs, deployment.consumers())
            redriven = sum(letters.redrive(Wanted(reason=reason)).count for reason in _KILLED)
            progress.redriven += redriven
            if not redriven:
                break
        progress.seconds += time.monotonic() - began
        self._sample(deployment, progress.seconds)

    def _deepest(self, deployment: Deployment) -> int:
        queues = [deployment.consumer(each).queue_url for each in READERS]
        deepest = max(depth(deployment.aws, queue).all for queue in queues)
        self._passed = max(self._passed, self._put - deepest)
        return deepest

    def _left(self, deployment: Deployment) -> int:
        return sum(each.queue.all for each in depths(deployment) if each.consumer != _NOT_WAITED_FOR)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + _SETTLED_WITHIN
        while not condition():
            if time.monotonic() > ends:
                raise Failure(f"waited {_SETTLED_WITHIN:.0f} s for {what}")
            self._stop.wait(_POLL)
            self._go_on_unless_stopped()

    def _go_on_unless_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _sample(self, deployment: Deployment, seconds: float) -> None:
        done = done_by(deployment, READERS[0])
        instance = self._embedded.connected()
        sample = {
            "seconds": round(seconds, 1),
            "done": done,
            "emulator_mib": round(_resident(instance.pid) / _MIB, 1),
            "workers_mib": round(sum(_resident(pid) for pid in self._embedded.workers()) / _MIB, 1),
            "disk_mib": round(_size(self._embedded.root) / _MIB, 1),
        }
        with (self.folder / "samples.jsonl").open("a") as file:
            file.write(json.dumps(sample) + "\n")
        self._say(
            f"{seconds:6.0f} s: {done:,} of {self.plan.orders:,} orders done, {self._published:,} of a leg published; "
            f"memory {sample['emulator_mib']:,.0f} MiB and {sample['workers_mib']:,.0f} MiB of workers; "
            f"disk {sample['disk_mib']:,.0f} MiB"
        )

    # -- what came of it

    def _compared(self, deployment: Deployment, progress: Progress) -> Result:
        self._say("comparing the ledger, the levels, the dead letters and the audit with plain addition")
        wanted = added_up(self.plan.all_invoices())
        found = ledger_of(deployment)
        account = audit(deployment)
        differences = [
            *different_ledgers(wanted, found),
            *different_levels(wanted, levels_of(deployment)),
            *self._different_letters(deployment),
            *(f"the audit misses {each}" for each in account.missing[:_DIFFERENCES_SHOWN]),
        ]
        if not account.adds_up:
            differences.append("the audit does not add up")
        done = {
            (line.consumer, line.event_type): line.done
            for line in account.lines
            if line.consumer in READERS and line.event_type in {OrderPlaced.TYPE, OrderCancelled.TYPE}
        }
        for consumer in READERS:
            for event_type, count in (
                (OrderPlaced.TYPE, wanted.total.orders),
                (OrderCancelled.TYPE, wanted.total.cancellations),
            ):
                if done.get((consumer, event_type)) != count:
                    differences.append(f"{consumer} did {done.get((consumer, event_type))} {event_type}, not {count}")
        return Result(self.plan.orders, self.plan.repeats(), len(self.plan.all_poison()), progress, differences)

    def _different_letters(self, deployment: Deployment) -> Iterator[str]:
        consumers = deployment.consumers()
        letters = DeadLetters(deployment.aws.sqs, consumers).listing(Wanted(), limit=_ALL).letters
        wanted: set[tuple[str, int | None, str]] = {
            letter for number in self.plan.all_poison() for letter in letters_of(number)
        }
        found = Counter((letter.consumer, number_in(letter.body), letter.reason) for letter in letters)
        yield from _told(f"no dead letter of {each}" for each in sorted(wanted - set(found)))
        yield from _told(f"a dead letter of {each}" for each in found if each not in wanted)


def publish(deployment: Deployment, publisher: Publisher, portion: Sequence[Publication]) -> None:
    """Publishes good events by the publisher, and poison past its checks. Raises NotPublished and Failure."""
    publisher.publish_many([each for each in portion if isinstance(each, Event)])
    broken = [each for each in portion if isinstance(each, Poison)]
    for batch in requests(Entry("", OrderPlaced.SOURCE, OrderPlaced.TYPE, each.detail.encode()) for each in broken):
        request: Any = [entry.request(deployment.bus) for entry in batch]
        answer = deployment.aws.events.put_events(Entries=request)
        if refused := [str(why) for why in answered(answer, len(batch)) if why]:
            raise Failure(f"the bus refused poison: {refused}")


def leave_out_archives_and_logs(deployment: Deployment) -> None:
    """Deletes the archives, and the logs so far: the embedded AWS has them in memory, some 50 kB for each order."""
    events, logs = deployment.aws.events, deployment.aws.logs
    for archive in events.list_archives()["Archives"]:
        events.delete_archive(ArchiveName=archive["ArchiveName"])
    for page in logs.get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            logs.delete_log_group(logGroupName=group["logGroupName"])
            # A function that works meanwhile may have made it.
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_group(logGroupName=group["logGroupName"])


def different_ledgers(wanted: Ledger, found: Ledger) -> Iterator[str]:
    """A line for each figure of the ledger that is not the one of plain addition."""
    if wanted.total != found.total:
        yield f"the ledger's total is {found.total}, not {wanted.total}"
    for name in ("by_day", "by_country", "by_product"):
        one, other = getattr(wanted, name), getattr(found, name)
        yield from _told(
            f"the ledger's {name} of {key} is {other.get(key)}, not {one.get(key)}"
            for key in sorted({*one, *other})
            if one.get(key) != other.get(key)
        )


def different_levels(wanted: Ledger, found: dict[str, int], opening: int = 1_000) -> Iterator[str]:
    """A line for each product whose level is not its `opening` units less those sold."""
    levels = {product: opening - figures.units for product, figures in wanted.by_product.items()}
    yield from _told(
        f"the level of {product} is {found.get(product)}, not {levels.get(product)}"
        for product in sorted({*levels, *found})
        if levels.get(product) != found.get(product)
    )


def _told(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == _DIFFERENCES_SHOWN:
            yield "and more"
            return
        yield line


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where it has ended or the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _size(folder: Path) -> int:
    """Bytes that the files of a folder have; those that go meanwhile do not count."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total
