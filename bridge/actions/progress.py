"""Pure: how far the three topics of one partition number may be committed.

Actions: up to the first without a verdict. Results: a verdict may be let go only when its action is committed, or an
action that is read again would not find it and get a second one. Events and deliveries: as far back as somebody needs
them to know its sessions again. So the next owner finds everything by reading on from what was committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from bridge.bus.watermark import Watermark


class Progress:
    """Of one partition number, since it was assigned."""

    def __init__(self) -> None:
        self.actions = Watermark()
        self._results: deque[tuple[int, int]] = deque()
        self._result_read = -1
        self._event_read = -1
        self._actions_committed = 0
        self._committed: dict[str, int] = {}

    def result(self, offset: int, action_offset: int | None) -> None:
        """A verdict was read, on this action; None: on none of this partition's."""
        self._result_read = offset
        if action_offset is not None:
            self._results.append((offset, action_offset))

    def event(self, offset: int) -> None:
        """An event was read."""
        self._event_read = offset

    def committable(
        self, needed_events: Iterable[int | None], needed_results: Iterable[int | None] = ()
    ) -> dict[str, int]:
        """By use of the topic: the next offset to read, where that is news. `needed_…`: first offsets needed."""
        found: dict[str, int] = {}
        actions = self.actions.committable
        if actions is not None:
            found["actions"] = actions
        while self._results and self._results[0][1] < self._actions_committed:
            self._results.popleft()
        results = self._results[0][0] if self._results else self._result_read + 1
        found["results"] = _first(results, needed_results)
        found["events"] = _first(self._event_read + 1, needed_events)
        return {use: offset for use, offset in found.items() if offset > self._committed.get(use, 0)}

    def committed(self, offsets: dict[str, int]) -> None:
        """These commits were confirmed."""
        self._committed.update(offsets)
        if "actions" in offsets:
            self.actions.committed(offsets["actions"])
            self._actions_committed = max(self._actions_committed, offsets["actions"])


def _first(offset: int, needed: Iterable[int | None]) -> int:
    return min([offset, *(each for each in needed if each is not None)])
