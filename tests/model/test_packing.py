"""Windows of any calls, packed: each once, within the budget, with little padding and in few shapes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmline.emotion.packing import (
    BUCKET_STEP_SAMPLES,
    LAST_BUCKET_SAMPLES,
    MIN_FILL,
    Group,
    Packer,
    count_rows,
    padding_share,
)

GPU = Packer(budget_samples=64 * 80_000, fixed_shapes=True)
LENGTHS = st.lists(st.integers(400, 200_000), max_size=300)


@given(lengths=LENGTHS, budget=st.sampled_from([0, 40_000, 400_000, 64 * 80_000]), fixed=st.booleans())
def test_each_window_is_in_one_group_that_has_room_for_it(lengths: list[int], budget: int, fixed: bool) -> None:
    groups = list(Packer(budget_samples=budget, fixed_shapes=fixed).pack(lengths))
    assert sorted(index for group in groups for index in group.indices) == list(range(len(lengths)))
    for group in groups:
        assert max(lengths[index] for index in group.indices) <= group.samples
        assert len(group.indices) <= group.rows
        assert group.rows * group.samples <= max(budget, group.samples)  # a lone window may pass the budget


@given(lengths=LENGTHS)
def test_the_longest_come_first(lengths: list[int]) -> None:
    sizes = [group.samples for group in GPU.pack(lengths)]
    assert sizes == sorted(sizes, reverse=True)


@given(lengths=LENGTHS)
def test_without_fixed_shapes_padding_is_less_than_a_quarter(lengths: list[int]) -> None:
    groups = list(Packer(budget_samples=10**7, fixed_shapes=False).pack(lengths))
    assert padding_share(groups, lengths) <= 1 - MIN_FILL
    assert all(group.rows == len(group.indices) for group in groups)


def test_many_windows_as_calls_have_them_waste_little_in_few_shapes() -> None:
    # Given what the windows of many calls are: cuts of 2.5 to 5 s, and short turns
    generator = random.Random(0)
    lengths = [
        int(generator.choice([generator.uniform(0.6, 5), generator.uniform(2.5, 5)]) * 16_000) for _ in range(5000)
    ]
    shapes, groups = set(), []
    # When they are packed as they come, 256 at a time
    for start in range(0, len(lengths), 256):
        part = lengths[start : start + 256]
        packed = list(GPU.pack(part))
        shapes |= {(group.rows, group.samples) for group in packed}
        groups.append((packed, part))
    # Then a sixth of the work at most is padding, in shapes that can all be kept
    assert all(padding_share(packed, part) < 0.3 for packed, part in groups)
    assert sum(padding_share(packed, part) for packed, part in groups) / len(groups) < 1 / 6
    assert len(shapes) <= 60


def test_full_windows_have_a_shape_without_padding() -> None:
    groups = list(GPU.pack([80_000] * 256))
    assert [(group.rows, group.samples, group.fixed) for group in groups] == [(64, 80_000, True)] * 4
    assert padding_share(groups, [80_000] * 256) == 0


def test_windows_beyond_the_buckets_are_as_long_as_they_are() -> None:
    (group,) = GPU.pack([123_457])
    assert group == Group(indices=(0,), rows=1, samples=123_457, fixed=False)


def test_a_cpus_windows_are_alone_and_exact() -> None:
    groups = list(Packer(budget_samples=0, fixed_shapes=False).pack([900, 30_000, 400]))
    assert [(group.indices, group.rows, group.samples) for group in groups] == [
        ((1,), 1, 30_000), ((0,), 1, 900), ((2,), 1, 400),
    ]  # fmt: skip


@given(windows=st.integers(1, 2_000), most=st.integers(1, 700))
def test_rows_are_few_numbers_that_leave_a_quarter_empty_at_most(windows: int, most: int) -> None:
    rows = count_rows(windows, most)
    assert 1 <= rows <= most
    assert rows == most or rows & (rows - 1) == 0
    assert min(windows, rows) >= rows * MIN_FILL


@pytest.mark.parametrize(
    ("windows", "rows"), [(1, 1), (2, 2), (3, 4), (5, 4), (6, 8), (37, 32), (48, 64), (99, 64)]
)
def test_rows_for_so_many_windows(windows: int, rows: int) -> None:
    assert count_rows(windows, 64) == rows


def test_a_row_that_would_be_empty_takes_a_shorter_window() -> None:
    # Given three windows of 5 s, for which four rows are computed, and a short one
    groups = list(GPU.pack([80_000, 80_000, 1_000, 80_000]))
    assert [group.indices for group in groups] == [(0, 1, 3, 2)]


def test_buckets_end_at_the_default_window() -> None:
    assert LAST_BUCKET_SAMPLES == 5 * 16_000
    assert LAST_BUCKET_SAMPLES % BUCKET_STEP_SAMPLES == 0


def test_nothing_is_packed_into_nothing() -> None:
    assert list(GPU.pack([])) == []
    assert padding_share([], []) == 0
