"""Reference losses by their formulas, in loops over Python floats, with sample inputs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

Rows = list[list[float]]
Maps = list[list[list[float]]]

every_shape = pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
every_width = pytest.mark.parametrize("classes", [2, 10, 1000])
every_temperature = pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])


def sample(
    classes: int, soft: bool = False, batch: int = 4, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of a student and a teacher, a target, and the target as class probabilities."""
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (2.5 * torch.randn(batch, classes, dtype=torch.float64, generator=rng) for _ in range(2))
    labels = torch.randint(classes, (batch,), generator=rng)
    shares = F.one_hot(labels, classes).double()
    if soft:
        shares = 0.55 * shares + 0.35 * shares.flip(0) + 0.1 / classes
    target = shares.to(dtype) if soft else labels
    return student.to(dtype), teacher.to(dtype), target, shares


def gradient(loss: Callable[..., Tensor], student: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Gradient of the loss with respect to the student's logits or map."""
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student, *args, **kwargs), student)[0]


def plain_gradient(loss: Callable[[list[list[float]]], float], rows: list[list[float]], step: float = 1e-5) -> Tensor:
    """The gradient of a function of nested lists `(B, C)`, by central differences."""
    slopes = [[0.0] * len(row) for row in rows]
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            row[j] = value + step
            above = loss(rows)
            row[j] = value - step
            slopes[i][j] = (above - loss(rows)) / (2 * step)
            row[j] = value
    return torch.tensor(slopes, dtype=torch.float64)


def plain_softmax(row: Sequence[float], temperature: float = 1.0) -> list[float]:
    top = max(row)
    powers = [math.exp((z - top) / temperature) for z in row]
    return [power / math.fsum(powers) for power in powers]


def plain_kl(first: Sequence[float], second: Sequence[float]) -> float:
    return math.fsum(p * math.log(p / q) for p, q in zip(first, second, strict=True))


def plain_label(student: Rows, shares: Rows) -> float:
    rows = zip(student, shares, strict=True)
    return math.fsum(-q * math.log(p) for z, row in rows for p, q in zip(plain_softmax(z), row, strict=True)) / len(
        student
    )


def plain_bce(student: Rows, shares: Rows) -> float:
    loss = 0.0
    for z_s, row in zip(student, shares, strict=True):
        for z, q in zip(z_s, row, strict=True):
            s = 1 / (1 + math.exp(-z))
            loss -= q * math.log(s) + (1 - q) * math.log(1 - s)
    return loss / (len(student) * len(student[0]))


def plain_kd(student: Rows, teacher: Rows, shares: Rows, temperature: float, alpha: float) -> float:
    divergence = 0.0
    for z_s, z_t in zip(student, teacher, strict=True):
        divergence += plain_kl(plain_softmax(z_t, temperature), plain_softmax(z_s, temperature))
    return alpha * temperature**2 * divergence / len(student) + (1 - alpha) * plain_label(student, shares)


def plain_nkd(student: Rows, teacher: Rows, shares: Rows, temperature: float, gamma: float) -> float:
    loss = 0.0
    for z_s, z_t, row in zip(student, teacher, shares, strict=True):
        y = row.index(max(row))
        loss -= plain_softmax(z_t)[y] * math.log(plain_softmax(z_s)[y])
        n_s = plain_softmax(z_s[:y] + z_s[y + 1 :], temperature)
        n_t = plain_softmax(z_t[:y] + z_t[y + 1 :], temperature)
        loss -= gamma * temperature**2 * math.fsum(t * math.log(s) for s, t in zip(n_s, n_t, strict=True))
    return loss / len(student)


def plain_dkd(student: Rows, teacher: Rows, shares: Rows, temperature: float, alpha: float, beta: float) -> float:
    loss = 0.0
    for z_s, z_t, row in zip(student, teacher, shares, strict=True):
        y = row.index(max(row))
        p_s, p_t = plain_softmax(z_s, temperature), plain_softmax(z_t, temperature)
        b_s, b_t = ([p[y], math.fsum(p[:y] + p[y + 1 :])] for p in (p_s, p_t))
        n_s, n_t = ([q / b[1] for q in p[:y] + p[y + 1 :]] for p, b in ((p_s, b_s), (p_t, b_t)))
        loss += alpha * plain_kl(b_t, b_s) + beta * plain_kl(n_t, n_s)
    return temperature**2 * loss / len(student)


def plain_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    a, b = ([x - math.fsum(row) / len(row) for x in row] for row in (a, b))
    norms = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (norms + 1e-8)


def plain_dist(student: Rows, teacher: Rows, temperature: float, beta: float, gamma: float) -> float:
    rows = [[plain_softmax(z, temperature) for z in logits] for logits in (student, teacher)]
    columns = [list(zip(*p, strict=True)) for p in rows]
    loss = 0.0
    for weight, pair in ((beta, rows), (gamma, columns)):
        correlations = [plain_correlation(a, b) for a, b in zip(*pair, strict=True)]
        loss += weight * (1 - math.fsum(correlations) / len(correlations))
    return temperature**2 * loss


def plain_layer_norm(values: Sequence[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((x - mean) ** 2 for x in values) / len(values)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in values]


def plain_fd(student: Maps, teacher: Maps, normalize: str, kind: str, beta: float) -> float:
    """FD of maps as nested lists `(B, C, N)`, the N positions in a row."""
    losses = []
    for f_s, f_t in zip(student, teacher, strict=True):
        positions = len(f_t[0])
        if normalize == "channels":
            f_t = list(zip(*(plain_layer_norm(column) for column in zip(*f_t, strict=True)), strict=True))
        if normalize == "chw":
            flat = plain_layer_norm([x for channel in f_t for x in channel])
            f_t = [flat[i : i + positions] for i in range(0, len(flat), positions)]
        for channel_s, channel_t in zip(f_s, f_t, strict=True):
            losses += [plain_distance(s - t, kind, beta) for s, t in zip(channel_s, channel_t, strict=True)]
    return math.fsum(losses) / len(losses)


def plain_distance(d: float, kind: str, beta: float) -> float:
    if kind == "mse":
        return d * d
    return 0.5 * d * d / beta if abs(d) < beta else abs(d) - 0.5 * beta
