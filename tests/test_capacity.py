"""Memory: what is needed is refused where it is more than is there, and nothing is refused where nobody knows."""

import pytest

from ctrlattn import capacity
from ctrlattn.capacity import available_memory, require_memory
from ctrlattn.errors import InputError


def test_more_than_there_is_is_refused(monkeypatch):
    monkeypatch.setattr(capacity, "available_memory", lambda: 1000)
    require_memory(1000, "this")
    for needed in (1001, float("nan"), float("inf"), 10**400):
        with pytest.raises(InputError, match=r"^this: this does not fit into memory"):
            require_memory(needed, "this")
    monkeypatch.setattr(capacity, "available_memory", lambda: None)
    require_memory(1e30, "this")


def test_the_smaller_of_machine_and_container_counts(monkeypatch):
    for system, group, least in ((5, 3, 3), (3, 5, 3), (None, 4, 4), (4, None, 4), (None, None, None)):
        monkeypatch.setattr(capacity, "_of_system", lambda system=system: system)
        monkeypatch.setattr(capacity, "_of_group", lambda group=group: group)
        assert available_memory() == least
