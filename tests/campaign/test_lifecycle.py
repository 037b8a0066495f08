"""The table of the contract: which action is open to a campaign in which status."""

import pytest

from campaign_service.campaigns.errors import StatusNotAllowedError
from campaign_service.campaigns.model import TRANSITIONS, Action, Stats, Status, next_status
from tests.campaign.builders import MOMENT

D, S, P, C, X = (
    Status.DRAFT,
    Status.SCHEDULED,
    Status.IN_PROGRESS,
    Status.COMPLETED,
    Status.STOPPED,
)

# action: what it makes of each status, None where it is refused
TABLE: dict[Action, dict[Status, Status | None]] = {
    Action.START: {D: P, S: P, P: P, C: None, X: P},
    Action.SCHEDULE: {D: S, S: S, P: None, C: None, X: S},
    Action.STOP: {D: None, S: X, P: X, C: None, X: X},
    Action.UPDATE: {D: D, S: S, P: None, C: None, X: X},
    Action.DELETE: {D: D, S: S, P: None, C: C, X: X},
    Action.COMPLETE: {D: None, S: None, P: C, C: None, X: None},
    Action.ABORT: {D: None, S: None, P: X, C: None, X: None},
}
CELLS = [(action, status) for action in Action for status in Status]


def test_the_table_has_every_action_in_every_status() -> None:
    assert set(TABLE) == set(Action) == set(TRANSITIONS)
    assert all(set(row) == set(Status) for row in TABLE.values())


@pytest.mark.parametrize(("action", "status"), CELLS, ids=lambda value: value.name.lower())
def test_an_action_leads_where_the_contract_says_or_is_refused(
    action: Action, status: Status
) -> None:
    expected = TABLE[action][status]
    if expected is not None:
        assert next_status("spring", status, action) is expected
        return

    with pytest.raises(StatusNotAllowedError) as refused:
        next_status("spring", status, action)

    error = refused.value
    assert (error.campaign_id, error.action, error.status) == ("spring", action, status)
    assert set(error.allowed) == {s for s, leads_to in TABLE[action].items() if leads_to}


def test_a_refusal_tells_the_status_and_the_allowed_ones() -> None:
    with pytest.raises(StatusNotAllowedError) as refused:
        next_status("spring", Status.COMPLETED, Action.STOP)

    assert str(refused.value) == (
        "campaign 'spring' is completed; stop is allowed in scheduled, in_progress, stopped"
    )


def test_no_status_is_left_by_a_completed_campaign() -> None:
    assert {moves.get(C, C) for moves in TRANSITIONS.values()} == {C}


@pytest.mark.parametrize(
    ("stats", "progress"),
    [
        (Stats(), 0.0),
        (Stats(started_at=MOMENT), 0.0),
        (Stats(targets_total=4, messages_sent=1, targets_skipped=1, targets_failed=1), 0.75),
        (Stats(targets_total=4, messages_sent=5), 1.0),
        (Stats(targets_total=0, completed_at=MOMENT), 1.0),
    ],
    ids=["draft", "just started", "on the way", "more joined", "empty audience, completed"],
)
def test_progress_is_the_handled_part_of_the_targets(stats: Stats, progress: float) -> None:
    assert stats.progress == progress
