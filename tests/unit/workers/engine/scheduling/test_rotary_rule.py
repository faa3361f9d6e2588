from __future__ import annotations

import pytest

from shared.domain.sampling import SamplingParams
from workers.engine.scheduling.drafter import Drafter
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.prefix_cache import SPAN, PrefixCache, prefix_root
from workers.engine.scheduling.rotary_rule import RotaryRule
from workers.engine.scheduling.scheduler import Scheduler
from workers.engine.scheduling.sequence import Sequence

PHI = RotaryRule(border=80, recomputes=True, is_graded=False)
LONGROPE = RotaryRule(border=80, recomputes=False, is_graded=False)
DYNAMIC = RotaryRule(border=80, recomputes=False, is_graded=True)


def sequence(num_prompt: int, num_drawn: int = 0, drafter: Drafter | None = None) -> Sequence:
    token_ids = [7 * i % 50 for i in range(num_prompt + num_drawn)]
    made = Sequence("r", 0, SamplingParams(max_tokens=100, seed=0), token_ids, num_prompt, drafter=drafter)
    made.prefix_root = prefix_root("owner", "revision")
    return made


def scheduler(rule: RotaryRule | None) -> Scheduler:
    return Scheduler(
        max_slots=2, prefill_chunk=200, max_step_tokens=256, kv_budget=KVBudget(512), rotary=rule
    )


def advance(scheduler: Scheduler) -> list[tuple[int, int]]:
    """Plan a step and draw token 1 for each row that draws. Returns start and count of its rows."""
    rows = scheduler.schedule().rows
    for row in rows:
        row.sequence.num_computed += row.num_own
        if row.draws:
            row.sequence.append(1)
    return [(row.start, row.count) for row in rows]


@pytest.mark.parametrize(("rule", "base"), [(PHI, 75), (LONGROPE, 70), (DYNAMIC, 70)])
def test_base_is_the_prompt_or_all_tokens(rule: RotaryRule, base: int) -> None:
    resumed = sequence(70, 5)
    rule.start(resumed)
    assert resumed.rotary_base == base


def test_a_sequence_that_grows_over_the_border_is_computed_again() -> None:
    growing, planner = sequence(79), scheduler(PHI)
    planner.add(growing)
    assert advance(planner) == [(0, 79)]
    assert advance(planner) == [(79, 1)]
    assert advance(planner) == [(0, 81)]
    assert growing.rotary_base == 81
    assert advance(planner) == [(81, 1)]


@pytest.mark.parametrize("rule", [None, LONGROPE, DYNAMIC])
def test_other_models_keep_what_they_computed(rule: RotaryRule | None) -> None:
    planner = scheduler(rule)
    planner.add(sequence(79))
    assert [advance(planner) for _ in range(4)] == [[(0, 79)], [(79, 1)], [(80, 1)], [(81, 1)]]


def test_a_draft_does_not_cross_the_border() -> None:
    repeating = Sequence(
        "r", 0, SamplingParams(max_tokens=100, seed=0), [1, 2, 3] * 26, 78, drafter=Drafter()
    )
    planner = scheduler(PHI)
    planner.add(repeating)
    advance(planner)
    repeating.token_ids[-1] = 1
    (row,) = planner.schedule().rows
    assert (row.num_own, len(row.draft)) == (1, 1)


def test_prefixes_with_other_rotations_are_not_shared() -> None:
    for rule, lengths in ((PHI, (70, 90)), (LONGROPE, (70, 90)), (DYNAMIC, (90, 91))):
        prefixes = PrefixCache[int](1000)
        first, second = map(sequence, lengths)
        for one in (first, second):
            rule.start(one)
        first.num_computed = SPAN
        prefixes.keep(first, lambda start, end: end - start)
        assert prefixes.find(first) == SPAN
        assert prefixes.find(second) == 0


def test_prefixes_with_the_same_rotations_are_shared() -> None:
    for rule, lengths in ((PHI, (90, 91)), (LONGROPE, (90, 91)), (DYNAMIC, (70, 75))):
        prefixes = PrefixCache[int](1000)
        first, second = map(sequence, lengths)
        for one in (first, second):
            rule.start(one)
        first.num_computed = SPAN
        prefixes.keep(first, lambda start, end: end - start)
        assert prefixes.find(second) == SPAN
