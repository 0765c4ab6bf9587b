"""Schedules against numbers worked out by hand."""

from icot.schedule import (
    AdaptiveSchedule,
    FixedSchedule,
    LinearSchedule,
    Schedule,
    Slowdown,
    Stage,
)


def removed_over(schedule: Schedule, batches: int, per_epoch: int, longest: int) -> list[int]:
    """Tokens removed at each of the first batches."""
    stage, found = schedule.start(longest), []
    for done in range(1, batches + 1):
        found.append(stage.tokens_removed)
        stage = schedule.after_batch(stage, done, per_epoch, longest)
    return found


def test_linear_over_three_epochs_by_hand():
    # floor(2 n / 5): n = 0..14
    expected = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5]
    assert removed_over(LinearSchedule(tokens_per_epoch=2), 15, 5, longest=99) == expected


def test_a_fraction_of_a_token_per_epoch_is_exact():
    # 0.1 has no exact binary form; the tenth epoch must start with one token removed all the same.
    removed = removed_over(LinearSchedule(tokens_per_epoch=0.1), 31, 3, longest=99)
    assert removed == [0] * 30 + [1]


def test_more_than_one_token_per_batch():
    assert removed_over(LinearSchedule(tokens_per_epoch=8), 5, 3, longest=9) == [0, 2, 5, 8, 9]


def test_official_rounding_drifts():
    # round(5 / 2) = 2 batches a token.
    schedule = LinearSchedule(tokens_per_epoch=2, rounding="official")
    assert removed_over(schedule, 9, 5, longest=99) == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_warmup_holds_the_schedule():
    schedule = LinearSchedule(tokens_per_epoch=2, warmup_epochs=1, warmup_removed=3)
    assert removed_over(schedule, 11, 4, longest=99) == [3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 6]
    stage = schedule.start(99)
    warming = []
    for done in range(1, 7):
        warming.append(stage.warming_up)
        stage = schedule.after_batch(stage, done, 4, 99)
    assert warming == [True, True, True, True, False, False]


def test_remove_all_beyond():
    schedule = LinearSchedule(tokens_per_epoch=1, remove_all_beyond=2)
    assert removed_over(schedule, 5, 1, longest=40) == [0, 1, 40, 40, 40]


def test_full_removal_is_the_last_stage():
    schedule, stage = LinearSchedule(tokens_per_epoch=4), Stage()
    for done in range(1, 21):
        stage = schedule.after_batch(stage, done, 2, 5)
    assert (stage.index, stage.tokens_removed) == (3, 5)  # 0, 2, 4, 5
    assert stage.batches_in_stage == 17  # stages 0 to 2 lasted a batch each


def test_baselines():
    assert removed_over(FixedSchedule(0), 4, 2, longest=9) == [0, 0, 0, 0]
    assert removed_over(FixedSchedule("all"), 4, 2, longest=9) == [9, 9, 9, 9]
    assert FixedSchedule(3).start(9).warming_up  # no offsets are drawn


def test_adaptive_moves_on_when_good_or_out_of_patience():
    schedule = AdaptiveSchedule(threshold=0.9, patience=4, min_batches=2, decay=0.5)
    stage, seen = schedule.start(9), []
    for accuracy in (0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0):
        stage = schedule.after_batch(stage, 0, 100, 9, accuracy)
        seen.append(stage.tokens_removed)
    # Patience ends stage 0 after 4; stage 1 is good after min_batches 2; stage 2 sees
    # 0, 1, 1, 1: averages 0, 2/3, 6/7, 14/15 = 0.933, and 4 batches.
    assert seen == [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]


def test_a_batch_of_which_nothing_is_trained_on_says_nothing_of_the_accuracy():
    schedule = AdaptiveSchedule(threshold=0.9, min_batches=2, decay=0.5)
    stage, seen = schedule.start(9), []
    for accuracy in (None, 1.0, None, 1.0, None, None, 0.8, 1.0, None, 1.0):
        stage = schedule.after_batch(stage, 0, 100, 9, accuracy)
        seen.append(stage.tokens_removed)
    # Stage 1 sees 0.8, 1, 1: averages 0.8, 14/15 after two batches.
    assert seen == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    patient = AdaptiveSchedule(threshold=0.9, patience=3)
    stage = patient.start(9)
    for _ in range(3):  # nothing may be trained on before some tokens are removed
        stage = patient.after_batch(stage, 0, 100, 9, None)
    assert (stage.tokens_removed, stage.unjudged) == (1, 0)


def test_adaptive_takes_several_tokens_at_once():
    schedule = AdaptiveSchedule(threshold=0.5, min_batches=1, tokens_per_stage=6)
    stage, seen = schedule.start(15), []
    for _ in range(5):
        stage = schedule.after_batch(stage, 0, 100, 15, 1.0)
        seen.append(stage.tokens_removed)
    assert seen == [6, 12, 15, 15, 15]


def test_adaptive_stops():
    schedule = AdaptiveSchedule(threshold=0.5, min_batches=1, stops=(2, 7))
    stage, seen = schedule.start(15), []
    for _ in range(4):
        stage = schedule.after_batch(stage, 0, 100, 15, 1.0)
        seen.append(stage.tokens_removed)
    assert seen == [2, 7, 15, 15]


def test_a_stage_survives_its_state_dict():
    stage = Stage(index=3, tokens_removed=7, batches_in_stage=11, accuracy=0.3)
    assert Stage.from_state_dict(stage.state_dict()) == stage


def test_after_a_slowdown_the_linear_schedule_goes_on_from_there_at_half_the_speed():
    # T = 10, delta = 4: a token every 2.5 batches; back to 1 token at batch 5, then one every 5.
    schedule = LinearSchedule(tokens_per_epoch=4, slowdowns=(Slowdown(5, 1),))
    stage = schedule.resume(Stage(index=2, tokens_removed=2), batches=5)
    assert (stage.tokens_removed, stage.index) == (1, 2)
    removed = []
    for done in range(6, 17):
        stage = schedule.after_batch(stage, done, 10, 100)
        removed.append(stage.tokens_removed)
    assert removed == [1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3]
    later = schedule.resume(Stage(index=4, tokens_removed=3), batches=16)
    assert later.tokens_removed == 3  # restored from behind the slowdown
    twice = LinearSchedule(
        tokens_per_epoch=4, rounding="official", slowdowns=(Slowdown(5, 1), Slowdown(20, 2))
    )
    at = [twice.after_batch(Stage(), n, 10, 100).tokens_removed for n in (29, 30, 39, 40)]
    assert at == [2, 3, 3, 4]  # a token every 10 batches


def test_after_a_slowdown_the_adaptive_schedule_removes_half_as_much_at_once():
    def next_removal(removed, **changes):
        schedule = AdaptiveSchedule(threshold=0.5, min_batches=1, **changes)
        stage = Stage(tokens_removed=removed)
        return schedule.after_batch(stage, 4, 10, 12, accuracy=1.0).tokens_removed

    once, thrice = (Slowdown(0, 0),), (Slowdown(0, 0),) * 3
    assert next_removal(2, tokens_per_stage=4) == 6
    assert next_removal(2, tokens_per_stage=4, slowdowns=once) == 4
    assert next_removal(2, tokens_per_stage=4, slowdowns=thrice) == 3  # at least one
    assert next_removal(2, stops=(8,), slowdowns=once) == 5
    assert next_removal(8, stops=(8,), slowdowns=once) == 10  # half of what is left


def test_the_last_stage_waits_for_its_own_accuracy():
    waits = AdaptiveSchedule(0.5, finish_threshold=0.9, min_batches=2, decay=0.0, stops=(4,))
    stage = waits.start(4)
    for accuracy in (0.6, 0.6):
        assert not waits.is_at_the_end(stage, 4)
        stage = waits.after_batch(stage, 0, 10, 4, accuracy)
    assert stage.tokens_removed == 4
    ends = []
    for accuracy in (0.95, 0.8, 0.95):  # the first is one batch too few
        stage = waits.after_batch(stage, 0, 10, 4, accuracy)
        ends.append(waits.is_at_the_end(stage, 4))
    assert ends == [False, False, True]
    assert AdaptiveSchedule(0.5).is_at_the_end(stage, 4)


def test_half_of_what_is_left_goes_at_each_stop():
    schedule = AdaptiveSchedule(threshold=0.5, min_batches=1, tokens_per_stage="half")
    stage, seen = schedule.start(24), []
    for _ in range(7):
        stage = schedule.after_batch(stage, 0, 100, 24, 1.0)
        seen.append(stage.tokens_removed)
    assert seen == [12, 18, 21, 23, 24, 24, 24]


def test_the_linear_schedule_may_say_in_how_many_batches_the_chain_goes():
    # 12 tokens in 15 batches are 8 in an epoch of 10.
    fitted = LinearSchedule(1, removal_batches=15)
    stated = LinearSchedule(8)
    for n in range(40):
        assert fitted.after_batch(Stage(), n, 10, 12) == stated.after_batch(Stage(), n, 10, 12)
    assert fitted.after_batch(Stage(), 15, 10, 12).tokens_removed == 12
    assert fitted.after_batch(Stage(), 14, 10, 12).tokens_removed == 11
