"""Follows the daemon and the node, and writes what decide says. One thread reads each of them, the main one writes."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from ..log import Logger, worth_a_line
from . import events, node_changes
from .api import Api, ApiError, UnreachableError
from .api_errors import CONFLICTS, HOPELESS, explain
from .daemon import Daemon
from .node_changes import Node
from .retry import Retry
from .state import Fault, State

log = Logger("agent")

_DAEMON_PAUSE_SECONDS = 5.0
_WRITE_PAUSE_SECONDS = 2.0  # against somebody who writes the same labels with other values
_MOST_EVENTS = 256


def timestamp() -> str:
    """This moment as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def report(retry: Retry, error: ApiError | UnreachableError, doing: str) -> None:
    """A line for the 1st, 2nd, 4th … failure in a row: an API server that is away is no flood."""
    if worth_a_line(retry.failures):
        name, fields = explain(error)
        log.warning(name, doing=doing, attempt=retry.failures, **fields)


class Agent:
    """apis: makes a client for a thread of its own."""

    def __init__(self, node: str, features: Collection[str], apis: Callable[[], Api], daemon: Daemon) -> None:
        self._name = node
        self._features = frozenset(features)
        self._apis = apis
        self._api = apis()
        self._daemon = daemon
        self._inbox: queue.Queue[Callable[[], None]] = queue.Queue()
        self._retries: dict[str, Retry] = {}
        self._state: State | None = None
        self._node: Node | None = None
        self._known: tuple[Fault, ...] | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=_MOST_EVENTS)
        self._result: str | None = None
        self._chosen: str | None = None

    def run(self) -> NoReturn:
        """Until the process ends."""
        followers = [self.follow_daemon]
        if self._features & node_changes.NEED_THE_NODE:
            followers.append(self.follow_node)
        for follower in followers:
            threading.Thread(target=_fatal(follower), name=follower.__name__, daemon=True).start()
        while True:
            self.step()
            self._receive()

    def _receive(self) -> None:
        """Take in what the threads say; wait for the first, or until something is to be tried again."""
        now = time.monotonic()
        due = [retry.at - now for retry in self._retries.values() if retry.at > now]
        try:
            self._inbox.get(timeout=min(due) if due else None)()
            while True:
                self._inbox.get_nowait()()
        except queue.Empty:
            return

    # ---- the threads

    def follow_daemon(self) -> NoReturn:
        """Tell the main thread what the daemon says."""
        retry, version = Retry(), -1
        while True:
            try:
                state = self._daemon.state() if version < 0 else self._daemon.watch(version)
            except (OSError, ValueError) as error:
                if version >= 0:
                    self._inbox.put(lambda: self.take_state(None))
                version = -1
                delay = min(retry.failed(time.monotonic()), _DAEMON_PAUSE_SECONDS)
                if retry.failures > 2 and worth_a_line(retry.failures):  # it may need a moment at start
                    log.warning("daemon_unavailable", error=error, attempt=retry.failures)
                time.sleep(delay)
                continue
            if version < 0:
                log.info("daemon_available", after=retry.failures or None)
            retry.succeeded(time.monotonic())
            if state.version != version:
                self._inbox.put(lambda state=state: self.take_state(state))  # type: ignore[misc]
            version = state.version

    def follow_node(self) -> NoReturn:
        """Tell the main thread what the node has."""
        api, retry = self._apis(), Retry()
        while True:
            try:
                metadata = api.node(self._name)
                self._tell_node(metadata)
                version = str(metadata.get("resourceVersion", ""))
                while True:
                    began = time.monotonic()
                    for kind, metadata in api.watch_node(self._name, version):
                        version = str(metadata.get("resourceVersion", version))
                        if kind != "BOOKMARK":
                            self._tell_node(metadata if kind != "DELETED" else None)
                        if retry.failures:  # only now: somebody may have the right to get and not to watch
                            log.info("api_available", after=retry.failures)
                        retry.succeeded(time.monotonic())
                    if time.monotonic() - began < 1.0:
                        raise UnreachableError("the watch ended at once")
            except (ApiError, UnreachableError) as error:
                if isinstance(error, ApiError) and error.status == 410:
                    time.sleep(1.0)  # what it knows of the past is less than ours: read the present again
                    continue
                delay = retry.failed(time.monotonic(), getattr(error, "retry_after", None))
                report(retry, error, "follow the node")
                time.sleep(delay)

    def _tell_node(self, metadata: dict[str, Any] | None) -> None:
        self._inbox.put(lambda: self.take_node(metadata))

    # ---- the main thread

    def take_state(self, state: State | None) -> None:
        """None: the daemon does not answer. Who comes then may be another one, which knows no config."""
        self._state = state
        if state is None:
            self._chosen = None

    def take_node(self, metadata: dict[str, Any] | None) -> None:
        """None: the node was deleted."""
        self._node = None if metadata is None else Node.of(metadata)

    def step(self) -> None:
        """Do what there is to do now."""
        self._announce()
        if self._state is not None and self._node is not None:
            if node_changes.CONFIG in self._features:
                self._choose(self._node)
            if self._state.faults is not None and node_changes.asked_for(self._node, self._features):
                self._attempt("acknowledge", self._acknowledge)
            self._attempt("write to the node", self._write, pause=_WRITE_PAUSE_SECONDS)
        while self._events and self._attempt("write events", self._send_event):
            pass

    def _announce(self) -> None:
        """Find out what deserves an Event."""
        if node_changes.EVENTS not in self._features or self._state is None or self._state.faults is None:
            return
        if self._known is None:
            if node_changes.ANNOTATIONS not in self._features:
                self._known = ()
            elif self._node is None:
                return
            else:
                self._known = node_changes.annotated(self._node)  # what an agent before this one told already
        faults = node_changes.remembered(self._state.faults, self._known)
        found = node_changes.news(self._known, faults)
        self._known = faults
        self._events.extend(events.unhealthy(self._name, fault, timestamp()) for fault in found.appeared)
        self._events.extend(events.healthy(self._name, fault, timestamp()) for fault in found.recovered)

    def _attempt(self, doing: str, what: Callable[[], bool], pause: float = 0.0) -> bool:
        """Whether `what` did something. What fails is tried again later; pause: seconds at least between two writes."""
        retry = self._retries.setdefault(doing, Retry())
        now = time.monotonic()
        if now < retry.at:
            return False
        try:
            done = what()
        except (ApiError, UnreachableError) as error:
            retry.failed(now, getattr(error, "retry_after", None))
            report(retry, error, doing)
            return False
        if retry.failures:
            log.info("api_available", doing=doing, after=retry.failures)
        retry.succeeded(now, pause if done else 0.0)
        return done

    def _send_event(self) -> bool:
        event = self._events[0]
        try:
            self._api.create_event(event)
            log.info("event_written", reason=event["reason"], message=event["message"])
        except ApiError as error:
            if error.status in HOPELESS:
                log.error("event_dropped", error=error)
            elif error.status != 409:  # it exists: an agent before this one wrote it
                raise
        self._events.popleft()
        return True

    def _choose(self, node: Node) -> None:
        label = node_changes.chosen(node)
        if label == self._chosen:
            return
        try:
            log.info("config_told", label=label, in_force=self._daemon.choose(label))
        except ValueError as error:
            log.warning("config_refused", label=label, reason=error)
            if label and node_changes.EVENTS in self._features:
                self._events.append(events.config_refused(self._name, str(error), timestamp()))
        except OSError:
            return  # it is gone, and will be told when it is back
        self._chosen = label

    def _acknowledge(self) -> bool:
        """First take the annotation away, then do what it says: what is done twice could hide a new fault."""
        assert self._node is not None  # noqa: S101 for the type checker
        names = node_changes.asked_for(self._node, self._features)
        try:
            claimed = self._api.patch(self._name, node_changes.claim(self._node, f"{timestamp()} in progress"))
        except ApiError as error:
            if error.status not in CONFLICTS:
                raise
            self.take_node(self._api.node(self._name))
            return False
        self.take_node(claimed)
        results = []
        for name in names:
            problem: str | None = None
            try:
                self._daemon.acknowledge(name)
            except ValueError as error:
                problem = str(error)
            except OSError as error:
                problem = f"the daemon does not answer ({error}); set the annotation again"
            log.info("acknowledged", gpu=name, problem=problem)
            results.append(f"{name}: {problem or 'acknowledged'}")
            if node_changes.EVENTS in self._features:
                self._events.append(events.acknowledged(self._name, name, problem, timestamp()))
        self._result = f"{timestamp()} {'; '.join(results)}"
        return True

    def _write(self) -> bool:
        assert self._node is not None and self._state is not None  # noqa: S101 for the type checker
        changes = node_changes.patch(self._node, self._state, self._features)
        if self._result is not None:
            changes.setdefault("annotations", {})[node_changes.ACK_RESULT] = self._result
        if not changes:
            return False
        self.take_node(self._api.merge(self._name, changes))
        self._result = None
        count = {kind: ",".join(sorted(change)) for kind, change in changes.items()}
        log.info("node_written", **count)
        return True


def _fatal(follow: Callable[[], NoReturn]) -> Callable[[], None]:
    """A thread that ends by a bug ends the process, which is then started again."""

    def guarded() -> None:
        try:
            follow()
        except BaseException as error:
            log.error("fatal", task=follow.__name__, error=repr(error), exc_info=error)
            os._exit(1)

    return guarded


def remove(node: str, api: Api) -> bool:
    """Take away all that an agent ever wrote to the node; whether there was something. Raises ApiError."""
    changes = node_changes.removal(Node.of(api.node(node)))
    if changes:
        api.merge(node, changes)
    return bool(changes)
