from services.campaign.delivery.pauses import PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN, Pause


def test_a_pause_grows_while_turns_fail_and_starts_anew_after_a_success() -> None:
    pause = Pause()
    pauses = [pause.after_failure() for _ in range(10)]
    for number, seconds in enumerate(pauses):
        longest = min(PAUSE_SECONDS_MIN * 2**number, PAUSE_SECONDS_MAX)
        assert 0.75 * longest <= seconds <= longest
    pause.reset()
    assert pause.after_failure() <= PAUSE_SECONDS_MIN
