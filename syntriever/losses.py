"""The losses of both stages, as pure functions of a score matrix and masks.

`scores` has the shape (rows, passages): row i holds s(q_i, p) = cos(E(q_i), E(p)) / tau for every
passage p of the batch, tau already divided out. What a row must not see (an absent component, a
false negative) is left out by boolean masks of the same shape. Each loss returns one value a row,
of the dtype of `scores`; a row with nothing to attract has loss 0 and gradient 0, and
`mean_counted` leaves it out of the mean. What a mask leaves out may hold anything, even NaN.

Source: Kim & Baek, Syntriever, Findings of NAACL 2025 (arXiv:2502.03824v3). In the examples
e^s is 3, 2, 1 and 4, so that every number can be checked by hand.
"""

import torch
from torch import Tensor
from torch.nn import functional


def soft_nearest_neighbor(scores: Tensor, positives: Tensor, candidates: Tensor) -> Tensor:
    """Return -log(sum over positives e^s / sum over candidates e^s), the paper's L_distill.

    The sum over the positives stands inside one log: the row is content when any of them scores
    well. A mean of the positives' logs would be another loss (SupCon).

    Args:
        scores: (rows, passages), floating point.
        positives: (rows, passages), bool: the numerator. A row may have none: its loss is 0.
        candidates: (rows, passages), bool: the denominator; the positives belong to it always.

    Returns:
        (rows,) losses in nats.

    -log((3 + 2) / (3 + 2 + 1 + 4)) = log 2; without the last column -log(5 / 6):

    >>> scores = torch.tensor([[3.0, 2.0, 1.0, 4.0], [3.0, 2.0, 1.0, 4.0]]).log()
    >>> positives = torch.tensor([[True, True, False, False], [True, True, False, False]])
    >>> candidates = torch.tensor([[True, True, True, True], [True, True, True, False]])
    >>> soft_nearest_neighbor(scores, positives, candidates)
    tensor([0.6931, 0.1823])
    """
    log_shares = torch.log_softmax(_only(scores, positives | candidates), dim=1)
    losses = -torch.logsumexp(_only(log_shares, positives), dim=1)
    return losses.masked_fill(~positives.any(dim=1), 0.0)


def info_nce(scores: Tensor, target: Tensor, candidates: Tensor) -> Tensor:
    """Return -log(e^s of the target / sum over target and candidates e^s).

    Args:
        scores: (rows, passages), floating point.
        target: (rows,), long: the column of each row's one positive; -1: none, loss 0.
        candidates: (rows, passages), bool: the denominator; the target belongs to it always.

    Returns:
        (rows,) losses in nats.

    Raises:
        RuntimeError: a target is below -1 or beyond the last column.

    -log(3 / (3 + 1 + 4)) = log(8 / 3); the second row has no target:

    >>> scores = torch.tensor([[3.0, 2.0, 1.0, 4.0], [3.0, 2.0, 1.0, 4.0]]).log()
    >>> candidates = torch.tensor([[True, False, True, True], [True, True, True, True]])
    >>> info_nce(scores, torch.tensor([0, -1]), candidates)
    tensor([0.9808, 0.0000])
    """
    # One column in front takes the rows without a target; one_hot refuses what lies outside.
    marked = functional.one_hot(target + 1, scores.shape[1] + 1)[:, 1:].bool()
    return soft_nearest_neighbor(scores, marked, candidates)


def multiple_negatives_ranking(scores: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of one target over all columns, as the published code trains.

    The query's own other positives stand in the denominator too and so are pushed away, which the
    paper's loss does not do.

    Args:
        scores: (rows, passages), floating point.
        target: (rows,), long: the column of each row's labelled passage; -1: none, loss 0.

    Returns:
        (rows,) losses in nats.

    Raises:
        RuntimeError: a target is below -1 or beyond the last column.

    -log(2 / (3 + 2 + 1 + 4)) = log 5:

    >>> scores = torch.tensor([[3.0, 2.0, 1.0, 4.0]]).log()
    >>> multiple_negatives_ranking(scores, torch.tensor([1]))
    tensor([1.6094])
    """
    return info_nce(scores, target, torch.ones_like(scores, dtype=torch.bool))


def multi_positive_info_nce(
    scores: Tensor, positives: Tensor, candidates: Tensor, weights: Tensor
) -> Tensor:
    """Return the weighted mean, over a row's positives, of each one's own InfoNCE.

    The denominator of positive k is e^{s_k} and the candidates that are no positive of the row, so
    that positives do not push each other away. A positive of weight 0 is neither attracted nor
    repelled.

    Args:
        scores: (rows, passages), floating point.
        positives: (rows, passages), bool. A row may have none: its loss is 0.
        candidates: (rows, passages), bool: the negatives; positives among them are passed over.
        weights: (rows, passages), at least 0: only those on positives count, normalised in each
            row to sum 1. Where all of them are 0 the row counts as one without positives.

    Returns:
        (rows,) losses in nats.

    3/4 of -log(3 / (3 + 1 + 4)) = 0.9808 and 1/4 of -log(2 / (2 + 1 + 4)) = 1.2528:

    >>> scores = torch.tensor([[3.0, 2.0, 1.0, 4.0]]).log()
    >>> positives = torch.tensor([[True, True, False, False]])
    >>> candidates = torch.tensor([[True, True, True, True]])
    >>> weights = torch.tensor([[0.6, 0.2, 9.0, 9.0]])
    >>> multi_positive_info_nce(scores, positives, candidates, weights)
    tensor([1.0488])
    """
    negatives = torch.logsumexp(_only(scores, candidates & ~positives), dim=1, keepdim=True)
    # e^k / (e^k + e^n) is the sigmoid of k - n; what is no positive has weight 0 below.
    losses = -functional.logsigmoid(scores.masked_fill(~positives, 0.0) - negatives)
    counted = weights.to(scores.dtype).masked_fill(~positives, 0.0)
    total = counted.sum(dim=1, keepdim=True)
    return (losses * counted / total.masked_fill(total == 0, 1.0)).sum(dim=1)


def partial_plackett_luce(
    scores: Tensor, preferred: Tensor, rejected: Tensor, candidates: Tensor
) -> Tensor:
    """Return -log P(preferred first, rejected second, the rest in any order), L_align (eq. 7).

    Plackett-Luce draws a ranking place by place, each passage with a chance in proportion to e^s
    among those left. Summed over the orders of the rest, the first two draws remain: one over all,
    one without the preferred passage.

    Args:
        scores: (pairs, passages), floating point: one row a compared pair.
        preferred: (pairs,), long: the column of the passage that the teacher preferred.
        rejected: (pairs,), long: the column of the other one, never the same.
        candidates: (pairs, passages), bool: the rest, which ranks below both. It makes no
            difference whether the pair itself is marked.

    Returns:
        (pairs,) losses in nats.

    Raises:
        RuntimeError: a column does not exist.

    -log(3 / (3 + 2 + 1 + 4)) - log(2 / (2 + 1 + 4)) = log(70 / 6):

    >>> scores = torch.tensor([[3.0, 2.0, 1.0, 4.0]]).log()
    >>> candidates = torch.tensor([[False, False, True, True]])
    >>> partial_plackett_luce(scores, torch.tensor([0]), torch.tensor([1]), candidates)
    tensor([2.4567])
    """
    first = functional.one_hot(preferred, scores.shape[1]).bool()
    second = functional.one_hot(rejected, scores.shape[1]).bool()
    first_draw = soft_nearest_neighbor(scores, first, candidates | second)
    second_draw = soft_nearest_neighbor(scores, second, candidates & ~first)
    return first_draw + second_draw


def bradley_terry(scores: Tensor, preferred: Tensor, rejected: Tensor) -> Tensor:
    """Return -log sigmoid(s_preferred - s_rejected), the baseline that L_align beats.

    Args:
        scores: (pairs, passages), floating point: one row a compared pair.
        preferred: (pairs,), long: the column of the passage that the teacher preferred.
        rejected: (pairs,), long: the column of the other one.

    Returns:
        (pairs,) losses in nats.

    Raises:
        RuntimeError: a column does not exist.

    -log(3 / (3 + 2)):

    >>> scores = torch.tensor([[3.0, 2.0, 1.0, 4.0]]).log()
    >>> bradley_terry(scores, torch.tensor([0]), torch.tensor([1]))
    tensor([0.5108])
    """
    pairs = torch.stack([preferred, rejected], dim=1)
    of_preferred, of_rejected = scores.gather(1, pairs).unbind(dim=1)
    return -functional.logsigmoid(of_preferred - of_rejected)


def numerator_share(scores: Tensor, positives: Tensor) -> Tensor:
    """Return what share of the numerator, sum over positives e^s, each positive holds.

    It tells which positive `soft_nearest_neighbor` listens to: each one's pull is in proportion.

    Args:
        scores: (rows, passages), floating point.
        positives: (rows, passages), bool.

    Returns:
        (rows, passages) shares: 0 outside the positives, sum 1 in each row that has any.

    3 / (3 + 2) and 2 / (3 + 2):

    >>> scores = torch.tensor([[3.0, 2.0, 1.0, 4.0]]).log()
    >>> numerator_share(scores, torch.tensor([[True, True, False, False]]))
    tensor([[0.6000, 0.4000, 0.0000, 0.0000]])
    """
    return torch.softmax(_only(scores, positives), dim=1).masked_fill(~positives, 0.0)


def mean_counted(losses: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the losses that count; 0, still with a gradient graph, where none does.

    Args:
        losses: (rows,), floating point.
        counted: (rows,), bool: such as the rows that have a positive.

    Returns:
        A scalar.

    (1 + 3) / 2; the middle row does not count:

    >>> mean_counted(torch.tensor([1.0, 0.0, 3.0]), torch.tensor([True, False, True]))
    tensor(2.)
    """
    return losses.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


def _only(scores: Tensor, columns: Tensor) -> Tensor:
    """Return `scores` with what lies outside `columns` at the lowest finite number.

    e to that is 0, as with -inf; but where nothing is left in a row -inf would make NaN on the way
    forward and back, while this stays finite.
    """
    return scores.masked_fill(~columns, torch.finfo(scores.dtype).min)
