"""A truncated distribution is well defined for every objective."""

import pytest
import torch

from lkd.engine.top_k import compress, divergence, expand


def sample(rows=6, classes=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, classes, generator=generator), torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_likeliest_the_label_and_the_sum_are_kept_and_the_rest_is_even(k):
    logits, label = sample()
    before, after = logits.double().softmax(1), expand(compress(logits, label, k), label, 9).double().softmax(1)
    torch.testing.assert_close(after.sum(1), torch.ones(6, dtype=torch.float64))
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        named = set(old.argsort(descending=True)[:k].tolist()) | {int(label[row])}
        others = [i for i in range(9) if i not in named]
        torch.testing.assert_close(new[list(named)], old[list(named)], rtol=1e-5, atol=1e-7)
        assert new[others].max() - new[others].min() < 1e-7
        torch.testing.assert_close(new[others].sum(), old[others].sum(), rtol=1e-5, atol=1e-7)


def test_what_is_lost_is_the_divergence_and_shrinks_with_k():
    logits, label = sample(rows=50)
    lost = [divergence(logits, label, k).mean().item() for k in (1, 3, 5, 7)]
    assert lost == sorted(lost, reverse=True) and lost[0] > 0.05
    before, after = logits.double().softmax(1), expand(compress(logits, label, 3), label, 9).double().softmax(1)
    assert lost[1] == pytest.approx((before * (before / after).log()).sum(1).mean().item(), rel=1e-4)


def test_logits_far_apart_stay_finite():
    logits, label = torch.tensor([[60.0, -60.0, -60.0, 0.0]]), torch.tensor([1])
    assert expand(compress(logits.half(), label, 1), label, 4).isfinite().all()
