"""What an owner has made up its mind to say, and whose word stands: ends without a dial, and doubts.

They are no knowledge. Copies and compaction may put any two records in either order, so the order decides nothing.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ledger.records import KeyParts, Record
from bridge.ledger.transitions import State, settles_unknown
from tests.support.ledger_values import cancelled, decision, deferred, folded, not_sent, sending, settled, unsure


def state_after(records: list[Record]) -> State:
    """The state of command `c`."""
    return folded(records).entries["c"].state


@pytest.mark.parametrize(
    ("records", "stands"),
    [
        # whose epoch is higher speaks, in either order
        ([sending(epoch=1), decision(2)], True),
        ([sending(epoch=2), decision(2)], True),
        ([sending(epoch=3), decision(2)], False),
        ([sending(epoch=3), not_sent(epoch=3), decision(2)], False),
        ([unsure(epoch=1), decision(2)], True),
        ([unsure(epoch=3), decision(2)], False),
        # what takes it into account that something is unknown stands beside it
        ([unsure(epoch=1), decision(2, settles_unknown=True)], True),
        ([unsure(epoch=3), decision(2, settles_unknown=True)], True),
        # knowledge is no decision
        ([settled(epoch=1), sending(epoch=3)], True),
    ],
)
def test_whose_word_stands(records: list[Record], stands: bool) -> None:
    """A decision is void where a later owner claimed the command or says that nobody knows; so is a doubt."""
    for order in (records, records[::-1]):
        assert (state_after(order) is State.FINISHED) == stands
        assert (state_after([*order, *records]) is State.FINISHED) == stands


def test_a_doubt_is_void_where_a_later_owner_claims_or_decides() -> None:
    """Its writer was succeeded, and never told it: the later owner's claim counts in spite of it."""
    history: list[Record] = [sending(epoch=1), not_sent(epoch=1)]
    assert state_after([*history, unsure(epoch=2, owed=True)]) is State.UNKNOWN
    for later in (sending(attempt=2, epoch=3), decision(3)):
        for order in ([unsure(epoch=2, owed=True), later], [later, unsure(epoch=2, owed=True)]):
            entry = folded([*history, *order]).entries["c"]
            assert entry.state is not State.UNKNOWN
            assert not entry.owed


def test_each_owners_decision_has_a_key_of_its_own() -> None:
    """All of them are remembered, void or not, until each is erased; the one that stands is known."""
    state = folded([decision(2), decision(3), sending(epoch=1)])
    entry = state.entries["c"]
    assert (set(entry.decided), entry.standing_decision) == ({2, 3}, 3)
    state.erase(KeyParts("c", "decided", 2), 50)
    assert (entry.decided, entry.standing_decision, entry.state) == ((3,), 3, State.FINISHED)
    state.fold(decision(1), 51)  # late, and void
    assert (set(entry.decided), entry.standing_decision) == ({1, 3}, 3)
    for epoch in (3, 1):
        state.erase(KeyParts("c", "decided", epoch), 60)
    assert state.entries == {}


def test_a_void_decision_is_remembered_until_it_is_erased() -> None:
    """Alone in the log it would end the command: the entry stays as long as it stands there."""
    state = folded([sending(epoch=3), decision(2)])
    state.erase(KeyParts("c", "sending", 1), 50)
    assert state.entries["c"].decided == (2,)
    assert [name for name, _ in state.over_before(10**6, most=9)] == ["c"]
    state.erase(KeyParts("c", "decided", 2), 51)
    assert state.entries == {}


def test_a_decision_may_be_told_in_spite_of_its_own_copy() -> None:
    """A copy of it that was stored without an answer is the same decision; another owner's is not."""
    decided = settled(attempt=0, result=cancelled(), epoch=5)
    for deferral in ([], [deferred()]):
        state = folded([*deferral, decided])
        assert state.may_count(decided)
        assert not state.may_count(msgspec.structs.replace(decided, epoch=4))


@given(st.data())
def test_whether_it_is_over_depends_on_no_order(data: st.DataObject) -> None:
    """Claims, doubts, proofs and decisions of several owners, in any order, with copies: the end is the same end."""
    epochs = st.sampled_from([1, 2, 3])
    kinds: list[st.SearchStrategy[Record]] = [
        st.builds(lambda attempt, epoch: sending(attempt=attempt, epoch=epoch), st.sampled_from([1, 2]), epochs),
        st.builds(lambda epoch: unsure(epoch=epoch), epochs),
        st.builds(decision, epochs),
        st.just(not_sent()),
        st.just(settled(attempt=2)),
    ]
    history = data.draw(st.lists(st.one_of(kinds), min_size=1, max_size=6))
    other = data.draw(st.permutations([*history, *data.draw(st.lists(st.sampled_from(history), max_size=3))]))
    one, two = folded(history).entries["c"], folded(other).entries["c"]
    assert (one.state is State.FINISHED) == (two.state is State.FINISHED)
    assert (one.standing_decision, set(one.decided)) == (two.standing_decision, set(two.decided))


@pytest.mark.parametrize("waits", [False, True], ids=["archived", "still deferred"])
def test_knowledge_that_a_later_owner_did_not_have_is_told_as_a_settlement(waits: bool) -> None:
    """The provider's answer was written too late for the owner that said "unknown": whoever tells it, settles that."""
    rest: list[Record] = [deferred()] if waits else []
    histories: list[tuple[list[Record], bool]] = [
        ([sending(), settled(epoch=1), unsure(epoch=2)], True),
        ([sending(), settled(epoch=2), unsure(epoch=1)], False),
        ([sending(), settled(epoch=1)], False),
    ]
    for records, is_settlement in histories:
        for order in (records, records[::-1]):
            assert settles_unknown(folded([*rest, *order]).entries["c"]) == is_settlement
