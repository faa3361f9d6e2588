from __future__ import annotations

import subprocess
import sys

from shared.domain.sampling import SamplingParams
from workers.engine.scheduling.drafter import Drafter
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Draw, Plan
from workers.engine.scheduling.scheduler import Scheduler
from workers.engine.scheduling.sequence import Sequence


def sequence(name: str, num_prompt: int, max_tokens: int = 8) -> Sequence:
    sampling = SamplingParams(max_tokens=max_tokens, seed=0)
    return Sequence(name, 0, sampling, list(range(num_prompt)), num_prompt)


def scheduler(*, max_slots: int = 4, max_step_tokens: int = 16) -> Scheduler:
    return Scheduler(max_slots=max_slots, prefill_chunk=5, max_step_tokens=max_step_tokens)


def run(plan: Plan) -> list[tuple[str, int, int, int]]:
    """Return the plan's rows as (name, slot, start, count). Then do what the engine does: draw a token per
    row and accept no draft."""
    rows = [(row.sequence.request_id, row.slot, row.start, row.count) for row in plan.rows]
    drawing = plan.drawing_rows
    for row in plan.rows:
        row.sequence.num_computed += row.num_own
    for row in drawing:
        row.sequence.token_ids.append(0)
    return rows


def test_prompt_is_read_in_chunks_then_decoded_token_by_token() -> None:
    subject = scheduler()
    subject.add(sequence("a", 12))
    steps = [run(subject.schedule()) for _ in range(5)]
    assert steps == [
        [("a", 0, 0, 5)],
        [("a", 0, 5, 5)],
        [("a", 0, 10, 2)],
        [("a", 0, 12, 1)],
        [("a", 0, 13, 1)],
    ]


def test_only_rows_that_reach_the_last_token_draw() -> None:
    subject = scheduler()
    subject.add(sequence("long", 6))
    subject.add(sequence("short", 3))
    plan = subject.schedule()
    assert [row.sequence.request_id for row in plan.drawing_rows] == ["short"]
    assert plan.num_tokens == 8


def test_decoding_goes_before_prompts_and_both_share_a_step() -> None:
    subject = scheduler(max_step_tokens=4)
    for name in ("a", "b"):
        subject.add(sequence(name, 1))
    assert run(subject.schedule()) == [("a", 0, 0, 1), ("b", 1, 0, 1)]
    subject.add(sequence("c", 9))
    assert run(subject.schedule()) == [("a", 0, 1, 1), ("b", 1, 1, 1), ("c", 2, 0, 2)]


def test_step_never_exceeds_its_budget() -> None:
    subject = scheduler(max_step_tokens=7)
    for name in ("a", "b", "c"):
        subject.add(sequence(name, 9))
    assert run(subject.schedule()) == [("a", 0, 0, 5), ("b", 1, 0, 2)]


def test_rows_of_one_token_come_first_and_by_slot() -> None:
    subject = scheduler()
    first, second, third = (sequence(name, 1) for name in "abc")
    for each in (first, second, third):
        subject.add(each)
    run(subject.schedule())
    subject.remove(first)
    subject.add(sequence("d", 3))
    run(subject.schedule())
    assert run(subject.schedule()) == [("d", 0, 3, 1), ("b", 1, 2, 1), ("c", 2, 2, 1)]


class FixedDrafter(Drafter):
    """Proposes the same draft each time, up to the requested length."""

    def __init__(self, *token_ids: int) -> None:
        super().__init__()
        self._token_ids = token_ids

    def draft(self, token_ids: list[int], max_tokens: int, min_probability: float) -> tuple[int, ...]:  # noqa: ARG002
        self.min_probability = min_probability
        return self._token_ids[:max_tokens]


def drafting(name: str, num_prompt: int, draft: tuple[int, ...], *, max_tokens: int = 90) -> Sequence:
    one = sequence(name, num_prompt, max_tokens)
    one.drafter = FixedDrafter(*draft)
    return one


def test_a_draft_is_computed_after_the_token_that_it_follows() -> None:
    subject = scheduler(max_step_tokens=64)
    for one in (drafting("a", 2, (7, 8)), sequence("b", 3), drafting("c", 1, (9,))):
        subject.add(one)
    run(subject.schedule())
    plan = subject.schedule()
    assert [(row.slot, row.start, row.count, row.draft) for row in plan.rows] == [
        (1, 3, 1, ()),
        (0, 2, 3, (7, 8)),
        (2, 1, 2, (9,)),
    ]
    assert [row.token_ids for row in plan.rows] == [[0], [0, 7, 8], [0, 9]]
    assert [row.wanted for row in plan.rows] == [range(3, 4), range(2, 5), range(1, 3)]
    assert [(draw.sequence.request_id, draw.index, draw.draft) for draw in plan.draws] == [
        ("b", 0, ()),
        ("a", 1, (7, 8)),
        ("c", 4, (9,)),
    ]
    assert plan.draws[1].next == Draw(plan.draws[1].sequence, 2, (8,))


def test_nothing_is_drafted_during_prefill() -> None:
    subject = scheduler(max_step_tokens=64)
    subject.add(drafting("a", 1, (7, 8)))
    run(subject.schedule())
    subject.add(sequence("b", 6))
    assert run(subject.schedule()) == [("a", 0, 1, 1), ("b", 1, 0, 5)]


def drafted(subject: Scheduler, *sequences: Sequence) -> list[int]:
    """The number of draft tokens per sequence once all prompts are read."""
    for one in sequences:
        subject.add(one)
    plan = subject.schedule()
    while not all(row.draws for row in plan.rows):
        run(plan)
        plan = subject.schedule()
    run(plan)
    rows = {row.sequence: len(row.draft) for row in subject.schedule().rows}
    return [rows[one] for one in sequences]


def test_a_step_with_drafts_stays_short_and_a_full_one_has_none() -> None:
    def drafts(num: int, max_step_tokens: int = 256) -> list[int]:
        subject = Scheduler(max_slots=64, prefill_chunk=5, max_step_tokens=max_step_tokens)
        return drafted(subject, *(drafting(str(i), 1, (7,) * 8) for i in range(num)))

    assert drafts(4) == [8, 8, 8, 4]
    assert drafts(16) == [8, 8, *[0] * 14]
    assert drafts(17) == [0] * 17
    assert drafts(2, max_step_tokens=5) == [3, 0]
    assert drafts(3, max_step_tokens=5) == [0, 0, 0]


def test_with_more_sequences_a_draft_must_be_more_likely() -> None:
    def min_probability(num: int) -> float:
        sequences = [drafting(str(i), 1, (7,)) for i in range(num)]
        drafted(scheduler(max_slots=16, max_step_tokens=64), *sequences)
        (chance,) = {
            one.drafter.min_probability for one in sequences if isinstance(one.drafter, FixedDrafter)
        }
        return chance

    assert [round(min_probability(num), 2) for num in (1, 2, 8, 16)] == [0.09, 0.17, 0.44, 0.62]


def test_the_last_token_of_the_output_is_never_drafted() -> None:
    # One token was drawn, so this step draws a second one, and a draft of three makes it five.
    assert drafted(scheduler(), drafting("a", 2, (7,) * 8, max_tokens=5)) == [3]
    assert drafted(scheduler(), drafting("a", 2, (7,) * 8, max_tokens=2)) == [0]


def test_a_draft_takes_no_memory() -> None:
    # With its first token drawn, it has 508 of the 512 tokens of its slot.
    assert drafted(budgeted(4096), drafting("a", 507, (7,) * 8)) == [4]


def test_a_sequence_without_a_slot_waits_for_the_first_to_end() -> None:
    subject = scheduler(max_slots=2)
    sequences = [sequence(name, 2) for name in "abc"]
    for each in sequences:
        subject.add(each)
    run(subject.schedule())
    assert (subject.num_running, subject.num_waiting) == (2, 1)
    subject.remove(sequences[1])
    assert run(subject.schedule()) == [("a", 0, 2, 1), ("c", 1, 0, 2)]


def budgeted(max_tokens: int) -> Scheduler:
    """Slots of 512, 1024 and 2048 tokens."""
    budget = KVBudget(2048, max_tokens)
    return Scheduler(max_slots=8, prefill_chunk=2000, max_step_tokens=4000, kv_budget=budget)


def test_a_sequence_that_does_not_fit_waits_for_memory() -> None:
    subject = budgeted(2048)
    first = sequence("a", 900)
    for each in (first, sequence("b", 1000), sequence("c", 3)):
        subject.add(each)
    assert [name for name, *_ in run(subject.schedule())] == ["a", "b"]
    assert (subject.num_running, subject.num_waiting) == (2, 1)
    subject.remove(first)
    plan = subject.schedule()
    assert plan.freed == (0,)
    assert [(name, slot) for name, slot, *_ in run(plan)] == [("b", 1), ("c", 0)]


def test_the_last_admitted_sequence_is_preempted_and_prefilled_again() -> None:
    subject = budgeted(1024)
    old, young = sequence("old", 511), sequence("young", 511)
    for each in (old, young):
        subject.add(each)
    run(subject.schedule())
    assert run(subject.schedule()) == [("old", 0, 511, 1), ("young", 1, 511, 1)]
    # Both have 513 tokens now, and there is one slot of that length.
    plan = subject.schedule()
    assert plan.freed == (1,)
    assert run(plan) == [("old", 0, 512, 1)]
    assert (subject.num_preempted, subject.num_waiting, young.num_computed) == (1, 1, 0)
    subject.remove(old)
    assert run(subject.schedule()) == [("young", 0, 0, 513)]


def test_a_single_sequence_is_always_admitted() -> None:
    subject = budgeted(1)
    subject.add(sequence("a", 3))
    assert run(subject.schedule()) == [("a", 0, 0, 3)]


def test_waiting_sequence_can_be_removed() -> None:
    subject = scheduler()
    waiting = sequence("a", 3)
    subject.add(waiting)
    subject.remove(waiting)
    assert not subject.has_work
    assert subject.schedule() == Plan(())


def test_scheduler_needs_no_torch() -> None:
    code = "import sys, workers.engine.scheduling.scheduler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def counts(
    num_streams: int,
    num_prompts: int,
    *,
    length: int = 8000,
    position: int = 0,
    attention_span: int | None = None,
) -> list[int]:
    """Tokens of each prompt that a step computes beside the given number of streams."""
    subject = Scheduler(max_slots=64, prefill_chunk=128, max_step_tokens=256, attention_span=attention_span)
    for index in range(num_streams):
        subject.add(sequence(f"stream {index}", 1))
    run(subject.schedule())
    prompts = [sequence(f"prompt {index}", length) for index in range(num_prompts)]
    for prompt in prompts:
        subject.add(prompt)
    run(subject.schedule())
    for prompt in prompts:
        prompt.num_computed = position
    return [row.count for row in subject.schedule().rows if row.sequence in prompts]


def test_more_prompts_beside_streams_get_more_of_a_step() -> None:
    assert counts(0, 1) == [128]
    assert counts(16, 1) == [64]
    assert counts(16, 16) == [120]
    assert sum(counts(4, 28)) == 220


def test_prompts_of_one_chunk_are_read_at_once_if_they_fit() -> None:
    assert counts(16, 1, length=300, position=200) == [100]
    assert counts(28, 2, length=300, position=200) == [100, 100]
    assert counts(28, 3, length=300, position=200) == [100, 100, 28]
    assert counts(16, 1, length=300, position=172) == [128]
    assert counts(16, 1, length=300, position=171) == [64]


def test_a_token_late_in_a_prompt_counts_as_several() -> None:
    assert counts(16, 1, position=6000, attention_span=2000) == [16]
    assert counts(16, 1, position=7000, attention_span=50) == [1]
    assert counts(0, 1, position=4000, attention_span=2000) == [128]


def wanted(subject: Scheduler) -> list[tuple[str, list[int]]]:
    """The positions whose logits the next step returns. Then does what the engine does."""
    plan = subject.schedule()
    found = [(row.sequence.request_id, list(row.wanted)) for row in plan.rows]
    for row in plan.rows:
        if row.sequence.wants_prompt_logprobs and row.sequence.num_prompt_scored is not None:
            row.sequence.num_prompt_scored += len(row.wanted) - row.draws
    run(plan)
    return found


def test_a_step_returns_logits_of_draws_and_of_scored_prompts() -> None:
    subject = scheduler()
    scored, plain = sequence("scored", 12), sequence("plain", 7)
    scored.num_prompt_scored = 0
    for each in (scored, plain):
        subject.add(each)
    assert wanted(subject) == [("scored", [0, 1, 2, 3, 4]), ("plain", [])]
    assert wanted(subject) == [("scored", [5, 6, 7, 8, 9]), ("plain", [6])]
    assert wanted(subject) == [("plain", [7]), ("scored", [10, 11])]
    assert wanted(subject) == [("scored", [12]), ("plain", [8])]


def test_a_preempted_prompt_is_not_scored_again() -> None:
    subject = scheduler()
    scored = sequence("scored", 12)
    scored.num_prompt_scored = 7
    subject.add(scored)
    assert [wanted(subject) for _ in range(4)] == [
        [("scored", [])],
        [("scored", [7, 8, 9])],
        [("scored", [10, 11])],
        [("scored", [12])],
    ]


class AllKnown:
    """A prefix cache that has all tokens but the last."""

    def find(self, sequence: Sequence) -> int:
        return sequence.num_tokens - 1


def test_a_scored_prompt_is_computed_even_if_cached() -> None:
    subject = Scheduler(max_slots=4, prefill_chunk=50, max_step_tokens=50, prefixes=AllKnown())
    scored, done, plain = sequence("scored", 12), sequence("done", 12), sequence("plain", 12)
    scored.num_prompt_scored, done.num_prompt_scored = 0, 11
    for each in (scored, done, plain):
        subject.add(each)
    assert run(subject.schedule()) == [("done", 1, 11, 1), ("plain", 2, 11, 1), ("scored", 0, 0, 12)]
