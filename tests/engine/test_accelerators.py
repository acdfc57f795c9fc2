"""Several accelerators in one process do not collide."""

from dataclasses import replace

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from short import ALONE, same

import lkd
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_accumulation_that_broke_off_elsewhere_does_not_stop_training(store: Store) -> None:
    expected = lkd.run(ALONE, store=Store(store.folder / "before"))
    theirs = Accelerator(cpu=True, gradient_accumulation_steps=4)
    theirs.gradient_state._set_sync_gradients(False)
    assert same(lkd.run(ALONE, store=store), expected)


def test_an_accelerator_of_the_users_own_is_left_as_it_was(store: Store) -> None:
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    theirs = Accelerator(cpu=True, gradient_accumulation_steps=4, mixed_precision="bf16")
    lkd.run(replace(ALONE, accumulation=2), store=store)
    assert theirs.gradient_accumulation_steps == 4
    assert theirs.mixed_precision == "bf16" and AcceleratorState().mixed_precision == "bf16"
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
