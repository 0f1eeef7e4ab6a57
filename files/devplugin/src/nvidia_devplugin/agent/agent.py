"""Follows the daemon and the node, each in a thread, and writes to the API server in the main thread."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NoReturn

from ..log import Logger, worth_a_line
from . import events, node_changes
from .api import Api, ApiError, UnreachableError
from .api_errors import CONFLICTS, HOPELESS, explain
from .daemon_client import DaemonClient
from .node_changes import NodeMetadata
from .retry import Retry, WritePace
from .state import DaemonState, ReportedFault

log = Logger("agent")

_DAEMON_PAUSE_SECONDS = 5.0
_MOST_EVENTS = 256


def timestamp() -> str:
    """The current time in the API's format."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def report(retry: Retry, error: ApiError | UnreachableError, doing: str) -> None:
    """Log the 1st, 2nd, 4th … failure in a row. doing: what failed."""
    if worth_a_line(retry.failures):
        name, fields = explain(error)
        log.warning(name, doing=doing, attempt=retry.failures, **fields)


class Agent:
    """Writes what the daemon reports to one node.

    node: its name. features: of node_changes.FEATURES. apis: makes a client of the API server, one per thread.
    clock: seconds that only grow.
    """

    def __init__(
        self,
        node: str,
        features: Collection[str],
        apis: Callable[[], Api],
        daemon: DaemonClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = node
        self._features = frozenset(features)
        self._apis = apis
        self._api = apis()
        self._daemon = daemon
        self._clock = clock
        self._inbox: queue.Queue[Callable[[], None]] = queue.Queue()
        self._retries: dict[str, Retry] = {}
        self._pace = WritePace()
        self._state: DaemonState | None = None
        self._node: NodeMetadata | None = None
        self._known: tuple[ReportedFault, ...] | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=_MOST_EVENTS)
        self._ack_result: str | None = None
        self._told_config: str | None = None

    def run(self) -> NoReturn:
        """Run until the process ends."""
        followers = [self.follow_daemon]
        if self._features & node_changes.NEED_THE_NODE:
            followers.append(self.follow_node)
        for follower in followers:
            threading.Thread(target=_fatal(follower), name=follower.__name__, daemon=True).start()
        while True:
            self.step()
            self._receive()

    def _receive(self) -> None:
        """Handle the messages of the threads. Waits for the first one, or until a retry or a write is due."""
        now = self._clock()
        waits = [at - now for at in (self._pace.at, *(retry.at for retry in self._retries.values())) if at > now]
        try:
            self._inbox.get(timeout=min(waits) if waits else None)()
            while True:
                self._inbox.get_nowait()()
        except queue.Empty:
            return

    # ---- the threads

    def follow_daemon(self) -> NoReturn:
        """Pass the daemon's states to the main thread."""
        retry, version = Retry(), -1
        while True:
            try:
                state = self._daemon.state() if version < 0 else self._daemon.watch(version)
            except (OSError, ValueError) as error:
                if version >= 0:
                    self._inbox.put(lambda: self.handle_state(None))
                version = -1
                delay = min(retry.failed(self._clock()), _DAEMON_PAUSE_SECONDS)
                if retry.failures > 2 and worth_a_line(retry.failures):  # it may need a moment at start
                    log.warning("daemon_unavailable", error=error, attempt=retry.failures)
                time.sleep(delay)
                continue
            if version < 0:
                log.info("daemon_available", after=retry.failures or None)
            retry.succeeded(self._clock())
            if state.version != version:
                self._inbox.put(lambda state=state: self.handle_state(state))  # type: ignore[misc]
            version = state.version

    def follow_node(self) -> NoReturn:
        """Pass the node's metadata to the main thread."""
        api, retry = self._apis(), Retry()
        while True:
            try:
                metadata = api.node(self._name)
                self._pass_node(metadata)
                version = str(metadata.get("resourceVersion", ""))
                while True:
                    began = self._clock()
                    for kind, metadata in api.watch_node(self._name, version):
                        version = str(metadata.get("resourceVersion", version))
                        if kind != "BOOKMARK":
                            self._pass_node(metadata if kind != "DELETED" else None)
                        if retry.failures:  # only now: the agent may have the right to get but not to watch
                            log.info("api_available", after=retry.failures)
                        retry.succeeded(self._clock())
                    if self._clock() - began < 1.0:
                        raise UnreachableError("the watch ended at once")
            except (ApiError, UnreachableError) as error:
                if isinstance(error, ApiError) and error.status == 410:
                    time.sleep(1.0)  # the version is too old for a watch: get the node again
                    continue
                delay = retry.failed(self._clock(), getattr(error, "retry_after", None))
                report(retry, error, "follow the node")
                time.sleep(delay)

    def _pass_node(self, metadata: dict[str, Any] | None) -> None:
        self._inbox.put(lambda: self.handle_node(metadata))

    # ---- the main thread

    def handle_state(self, state: DaemonState | None) -> None:
        """None: the daemon does not answer. The next one that does may be new and know no config."""
        self._state = state
        if state is None:
            self._told_config = None

    def handle_node(self, metadata: dict[str, Any] | None) -> None:
        """None: the node was deleted."""
        self._node = None if metadata is None else NodeMetadata.of(metadata)

    def step(self) -> None:
        """Do everything that is due now."""
        self._queue_fault_events()
        if self._state is not None and self._node is not None:
            if node_changes.CONFIG in self._features:
                self._choose_config(self._node)
            if self._state.faults is not None and node_changes.to_acknowledge(self._node, self._features):
                self._attempt("acknowledge", partial(self._acknowledge, self._node))
            self._update_node(self._node, self._state)
        while self._events and self._attempt("write events", self._send_event):
            pass

    def _queue_fault_events(self) -> None:
        if node_changes.EVENTS not in self._features or self._state is None or self._state.faults is None:
            return
        if self._known is None:
            if node_changes.ANNOTATIONS not in self._features:
                self._known = ()
            elif self._node is None:
                return
            else:
                self._known = node_changes.annotated_faults(self._node)  # a previous agent wrote their Events
        faults = node_changes.with_first_times(self._state.faults, self._known)
        changes = node_changes.fault_changes(self._known, faults)
        self._known = faults
        self._events.extend(events.unhealthy(self._name, fault, timestamp()) for fault in changes.appeared)
        self._events.extend(events.healthy(self._name, fault, timestamp()) for fault in changes.recovered)

    def _attempt(self, doing: str, action: Callable[[], bool]) -> bool:
        """Run `action` unless it waits for a retry; returns its answer, False if it did not run or failed."""
        retry = self._retries.setdefault(doing, Retry())
        now = self._clock()
        if now < retry.at:
            return False
        try:
            done = action()
        except (ApiError, UnreachableError) as error:
            retry.failed(now, getattr(error, "retry_after", None))
            report(retry, error, doing)
            return False
        if retry.failures:
            log.info("api_available", doing=doing, after=retry.failures)
        retry.succeeded(now)
        return done

    def _send_event(self) -> bool:
        event = self._events[0]
        try:
            self._api.create_event(event)
            log.info("event_written", reason=event["reason"], message=event["message"])
        except ApiError as error:
            if error.status in HOPELESS:
                log.error("event_dropped", error=error)
            elif error.status != 409:  # a previous agent wrote it
                raise
        self._events.popleft()
        return True

    def _choose_config(self, node: NodeMetadata) -> None:
        label = node_changes.chosen_config(node)
        if label == self._told_config:
            return
        try:
            log.info("config_told", label=label, in_force=self._daemon.choose_config(label))
        except ValueError as error:
            log.warning("config_refused", label=label, reason=error)
            if label and node_changes.EVENTS in self._features:
                self._events.append(events.config_refused(self._name, str(error), timestamp()))
        except OSError:
            return  # the daemon gets it when it is back
        self._told_config = label

    def _acknowledge(self, node: NodeMetadata) -> bool:
        """Remove the annotation, then do what it says: an acknowledgement applied twice could hide a new fault."""
        names = node_changes.to_acknowledge(node, self._features)
        try:
            claimed = self._api.patch(self._name, node_changes.claim(node, f"{timestamp()} in progress"))
        except ApiError as error:
            if error.status not in CONFLICTS:
                raise
            self.handle_node(self._api.node(self._name))
            return False
        self.handle_node(claimed)
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
        self._ack_result = f"{timestamp()} {'; '.join(results)}"
        return True

    def _update_node(self, node: NodeMetadata, state: DaemonState) -> None:
        changes = node_changes.patch(node, state, self._features)
        if self._ack_result is not None:
            changes.setdefault("annotations", {})[node_changes.ACK_RESULT] = self._ack_result
        if self._pace.due(changes, self._clock()):
            self._attempt("write to the node", partial(self._write, changes))

    def _write(self, changes: dict[str, dict[str, str | None]]) -> bool:
        self.handle_node(self._api.merge(self._name, changes))
        self._ack_result = None
        self._pace.wrote(changes, self._clock())
        keys = {kind: ",".join(sorted(change)) for kind, change in changes.items()}
        log.info("node_written", **keys)
        if self._pace.reverts and worth_a_line(self._pace.reverts):
            log.warning(
                "node_changes_undone", times=self._pace.reverts, **keys,
                repeated_after=f"{self._pace.pause:g} s at the earliest",
                hint="Node Feature Discovery, another controller or an admission policy changes what the agent writes; "
                f"'kubectl get node {self._name} -o yaml --show-managed-fields' names the writers",
            )  # fmt: skip
        return True


def _fatal(follow: Callable[[], NoReturn]) -> Callable[[], None]:
    """`follow` as the target of a thread: a bug in it ends the process, which the kubelet restarts."""

    def guarded() -> None:
        try:
            follow()
        except BaseException as error:
            log.error("fatal", task=follow.__name__, error=repr(error), exc_info=error)
            os._exit(1)

    return guarded


def remove(node: str, api: Api) -> bool:
    """Remove everything that an agent wrote to the node. Returns whether there was anything.

    Raises ApiError and UnreachableError.
    """
    changes = node_changes.removal(NodeMetadata.of(api.node(node)))
    if changes:
        api.merge(node, changes)
    return bool(changes)
