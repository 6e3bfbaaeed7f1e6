"""Plans of chaos runs: the same for the same seed, of every kind of fault, and within their settings."""

from __future__ import annotations

from collections import Counter

import pytest

from chaos.__main__ import main
from chaos.faults import FAULTS
from chaos.plan import Moment, make_plan
from chaos.seeds import parse_seeds
from chaos.summary import summary
from services.sandbox.knobs import Knobs

SEEDS = range(1, 201)


def test_the_same_seed_is_the_same_plan() -> None:
    for seed in SEEDS:
        assert make_plan(seed) == make_plan(seed)
        assert make_plan(seed).describe() == make_plan(seed).describe()
    assert len({make_plan(seed).describe() for seed in SEEDS}) == len(SEEDS)


def test_two_hundred_seeds_have_every_kind_of_fault_several_times() -> None:
    kinds = Counter(kind for seed in SEEDS for kind in make_plan(seed).kinds)
    assert kinds.keys() == FAULTS.keys()
    assert min(kinds.values()) >= 3
    assert {len(make_plan(seed).faults) for seed in SEEDS} == {1, 2, 3, 4}


def test_two_hundred_seeds_have_all_that_clients_do() -> None:
    plans = [make_plan(seed) for seed in SEEDS]
    assert any(plan.clients.competitor for plan in plans)
    assert any(plan.clients.deleted for plan in plans)
    assert any(plan.clients.opt_outs and plan.clients.forged for plan in plans)
    for channel in (0, 1):
        campaigns = [plan.campaigns[channel] for plan in plans]
        assert any(campaign.stop_share for campaign in campaigns)
        assert any(campaign.retries_failed for campaign in campaigns)


def test_only_the_kinds_that_are_asked_for() -> None:
    kinds = ("link-cut", "kill-nats")
    drawn = {kind for seed in range(20) for kind in make_plan(seed, kinds=kinds).kinds}
    assert drawn == set(kinds)


def test_a_kind_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="kill-nobody"):
        make_plan(1, kinds=("kill-nobody",))


def test_the_knobs_are_the_sandboxs() -> None:
    for seed in SEEDS:
        Knobs.model_validate(make_plan(seed).knobs)


@pytest.mark.parametrize("long", [False, True])
def test_nothing_is_given_up_before_the_faults_are_over(long: bool) -> None:
    for seed in SEEDS:
        plan = make_plan(seed, long=long)
        given_up_seconds = int(plan.settings["OUTREACH_UNCONFIRMED_AFTER_SECONDS"])
        assert given_up_seconds > plan.hold_seconds + plan.send_window_seconds


@pytest.mark.parametrize("point", ["import-committed", "retry-committed", "stop-committed"])
def test_a_death_in_the_code_is_armed_for_what_leads_there(point: str) -> None:
    for seed in range(20):
        plan = make_plan(seed, kinds=(f"crash-at:{point}",))
        for planned in plan.faults:
            if point.startswith("stop"):
                assert (planned.moment, planned.at_seconds) == (Moment.RUN, 0.0)
            else:
                assert planned.moment is Moment(point.partition("-")[0])
        if not point.startswith("import"):
            assert all(campaign.stop_share for campaign in plan.campaigns)


def test_seeds_on_a_command_line() -> None:
    assert parse_seeds("7") == [7]
    assert parse_seeds("1,5,9-12") == [1, 5, 9, 10, 11, 12]


def test_a_kind_that_is_none_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["chaos", "run", "1-9", "--kinds", "kill-nats,provider-429"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "no kind provider-429; `python -m chaos list` has all kinds" in capsys.readouterr().err


def test_what_ran_nowhere_has_kept_nothing() -> None:
    assert "nothing was checked" in summary([], broken=[1])
    assert "nothing lost" not in summary([], broken=[1])
