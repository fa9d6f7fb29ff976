"""The losses against numbers made by hand and by enumeration; their laws stand next door."""

import doctest
import itertools
import math

import pytest
import torch

from syntriever import losses

# e^s of the hand cases, so that every expected number is the log of a fraction of small integers.
EXP_SCORES = [3.0, 2.0, 1.0, 4.0]


def logs(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def mask(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def rankings(exp_scores: list[float], items: list[int]) -> dict[tuple[int, ...], float]:
    """Every order of `items` with its Plackett-Luce probability, drawn place by place."""
    probabilities = {}
    for order in itertools.permutations(items):
        left = sum(exp_scores[item] for item in order)
        probability = 1.0
        for item in order:
            probability *= exp_scores[item] / left
            left -= exp_scores[item]
        probabilities[order] = probability
    return probabilities


def random_exp_scores(columns: int) -> list[float]:
    generator = torch.Generator().manual_seed(columns)
    return (torch.rand(columns, generator=generator, dtype=torch.float64) + 0.1).tolist()


def test_doctests():
    """Every public loss has an example with numbers made by hand, and it is true."""
    results = doctest.testmod(losses)
    assert results.failed == 0
    public = [
        name
        for name, value in vars(losses).items()
        if getattr(value, "__module__", "") == losses.__name__ and not name.startswith("_")
    ]
    assert len(public) == 8
    for name in public:
        assert ">>> " in getattr(losses, name).__doc__, name


def test_soft_nearest_neighbor_by_hand():
    """The numerator sums over positives, the denominator over candidates and positives."""
    scores = logs(EXP_SCORES, EXP_SCORES, EXP_SCORES, EXP_SCORES)
    positives = mask([1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1])
    candidates = mask([1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1])
    expected = [
        -math.log(5 / 10),
        -math.log(5 / 9),  # positives are in the denominator though not marked as candidates
        0.0,  # one positive against nothing
        0.0,  # nothing but positives
    ]
    actual = losses.soft_nearest_neighbor(scores, positives, candidates)
    assert actual.tolist() == pytest.approx(expected, abs=1e-12)


def test_soft_nearest_neighbor_is_the_formula_of_the_paper():
    """On a batch with a relabelled positive the loss is L_distill, written out term by term."""
    # Columns: labelled p0, p1 · synthetic positive of 0 · cot 0, cot 1 · hard negatives of 0, 1, 1.
    # The positive of query 1 was relabelled: it is that query's second hard negative.
    exp_scores = [
        [5.0, 1.0, 4.0, 3.0, 2.0, 1.5, 0.5, 0.7],
        [0.4, 6.0, 0.6, 0.3, 3.5, 0.2, 2.5, 4.5],
    ]
    positives = mask([1, 0, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0, 0, 0])
    actual = losses.soft_nearest_neighbor(logs(*exp_scores), positives, torch.ones(2, 8).bool())
    expected = [
        -math.log((5 + 4 + 3) / (5 + 1 + 4 + 3 + 2 + 1.5 + 0.5 + 0.7)),
        -math.log((6 + 3.5) / (0.4 + 6 + 0.6 + 0.3 + 3.5 + 0.2 + 2.5 + 4.5)),
    ]
    assert actual.tolist() == pytest.approx(expected, abs=1e-12)


def test_soft_nearest_neighbor_is_not_supcon():
    """The sum over positives stands inside one log; a mean of logs would give another number."""
    actual = losses.soft_nearest_neighbor(
        logs(EXP_SCORES), mask([1, 1, 0, 0]), mask([1, 1, 1, 1])
    ).item()
    supcon = -(math.log(3 / 10) + math.log(2 / 10)) / 2  # log sqrt(100 / 6) = 1.407
    assert actual == pytest.approx(math.log(2))  # 0.693
    assert actual < supcon - 0.7


def test_soft_nearest_neighbor_lets_a_satisfied_row_rest():
    """Where one positive holds the numerator the other is hardly pulled; SupCon pulls it fully."""
    # Of e^s = 98, 1 and 1 the first two are positives. The pull on positive k is its share of the
    # numerator less its share of the denominator: 1/99 - 1/100 on the second; SupCon's pull on it
    # would be 1/2 - 1/100.
    scores = logs([98.0, 1.0, 1.0]).requires_grad_()
    losses.soft_nearest_neighbor(scores, mask([1, 1, 0]), mask([1, 1, 1])).sum().backward()
    pull = [-(98 / 99 - 98 / 100), -(1 / 99 - 1 / 100), 1 / 100]
    assert scores.grad[0].tolist() == pytest.approx(pull, abs=1e-12)


@pytest.mark.parametrize("columns", [2, 3, 5])
def test_soft_nearest_neighbor_by_enumeration(columns):
    """It is -log of the chance that a Plackett-Luce ranking puts some positive first."""
    exp_scores = random_exp_scores(columns)
    for count in range(1, columns + 1):
        chance = sum(
            probability
            for order, probability in rankings(exp_scores, list(range(columns))).items()
            if order[0] < count
        )
        positives = mask([column < count for column in range(columns)])
        actual = losses.soft_nearest_neighbor(
            logs(exp_scores), positives, torch.ones_like(positives)
        )
        assert actual.item() == pytest.approx(-math.log(chance), abs=1e-12)


def test_info_nce_by_hand():
    """One target over itself and the candidates; -1 means that there is none."""
    scores = logs(EXP_SCORES, EXP_SCORES, EXP_SCORES)
    candidates = mask([1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1])
    actual = losses.info_nce(scores, torch.tensor([3, 1, -1]), candidates)
    assert actual.tolist() == pytest.approx([-math.log(4 / 10), -math.log(2 / 7), 0.0])


def test_multiple_negatives_ranking_is_cross_entropy():
    """It is the published code's call: cross_entropy over all columns with one target."""
    scores = logs(EXP_SCORES, EXP_SCORES[::-1])
    target = torch.tensor([0, 2])
    actual = losses.multiple_negatives_ranking(scores, target)
    expected = torch.nn.functional.cross_entropy(scores, target, reduction="none")
    torch.testing.assert_close(actual, expected)


def test_multiple_negatives_ranking_repels_other_positives():
    """The query's second positive is pushed away by it and pulled by the paper's loss."""
    scores = logs(EXP_SCORES).requires_grad_()
    (repelled,) = torch.autograd.grad(
        losses.multiple_negatives_ranking(scores, torch.tensor([0])).sum(), scores
    )
    (attracted,) = torch.autograd.grad(
        losses.soft_nearest_neighbor(scores, mask([1, 1, 0, 0]), mask([1, 1, 1, 1])).sum(), scores
    )
    assert repelled[0, 1].item() == pytest.approx(2 / 10)
    assert attracted[0, 1].item() == pytest.approx(2 / 10 - 2 / 5)


def test_multi_positive_info_nce_by_hand():
    """Each positive has its own denominator; weights off the positives are not looked at."""
    scores = logs(EXP_SCORES, EXP_SCORES, EXP_SCORES)
    positives = mask([1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0])
    candidates = mask([1, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0])
    weights = torch.tensor([[0.6, 0.2, 7.0, 0.0], [0.0, 2.0, 7.0, 0.0], [1.0, 1.0, 7.0, 0.0]])
    expected = [
        -0.75 * math.log(3 / (3 + 1 + 4)) - 0.25 * math.log(2 / (2 + 1 + 4)),
        -math.log(2 / (2 + 1)),  # all the weight on one; the other is no negative either
        0.0,  # positives without negatives
    ]
    actual = losses.multi_positive_info_nce(scores, positives, candidates, weights)
    assert actual.tolist() == pytest.approx(expected, abs=1e-7)


def test_multi_positive_info_nce_ignores_positives_without_weight():
    """A positive of weight 0 gets no gradient; a row of such counts as one without positives."""
    scores = logs(EXP_SCORES, EXP_SCORES).requires_grad_()
    positives = mask([1, 1, 0, 0], [1, 1, 0, 0])
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    actual = losses.multi_positive_info_nce(scores, positives, torch.ones(2, 4).bool(), weights)
    actual.sum().backward()
    assert actual.tolist() == pytest.approx([-math.log(3 / 8), 0.0])
    assert scores.grad[0].tolist() == pytest.approx([-5 / 8, 0.0, 1 / 8, 4 / 8])
    assert scores.grad[1].tolist() == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("rest", range(6))
def test_partial_plackett_luce_by_enumeration(rest):
    """It is -log of the summed chances of all orders with preferred first and rejected second."""
    preferred, rejected, candidates = 1, 0, range(2, rest + 2)
    # The last column is no candidate and takes no part.
    exp_scores = random_exp_scores(rest + 3)
    probabilities = rankings(exp_scores, [preferred, rejected, *candidates])
    assert len(probabilities) == math.factorial(rest + 2)
    assert sum(probabilities.values()) == pytest.approx(1.0)
    chance = sum(
        probability
        for order, probability in probabilities.items()
        if order[:2] == (preferred, rejected)
    )
    actual = losses.partial_plackett_luce(
        logs(exp_scores),
        torch.tensor([preferred]),
        torch.tensor([rejected]),
        mask([column in candidates for column in range(rest + 3)]),
    )
    assert actual.item() == pytest.approx(-math.log(chance), abs=1e-12)


def test_partial_plackett_luce_is_the_formula_of_the_paper():
    """On a batch of two pairs the loss is L_align, written out term by term."""
    # Columns: c1+, c1-, c2+, c2-; each row's candidates are the other row's passages.
    exp_scores = [[5.0, 3.0, 2.0, 1.0], [0.5, 1.5, 2.5, 4.0]]
    actual = losses.partial_plackett_luce(
        logs(*exp_scores),
        torch.tensor([0, 2]),
        torch.tensor([1, 3]),
        mask([0, 0, 1, 1], [1, 1, 0, 0]),
    )
    expected = [
        -math.log(5 / (5 + 3 + 2 + 1)) - math.log(3 / (3 + 2 + 1)),
        -math.log(2.5 / (2.5 + 4 + 0.5 + 1.5)) - math.log(4 / (4 + 0.5 + 1.5)),
    ]
    assert actual.tolist() == pytest.approx(expected, abs=1e-12)


def test_partial_plackett_luce_does_not_care_whether_candidates_hold_the_pair():
    """The second denominator leaves out the preferred passage even where it is a candidate."""
    pair = (torch.tensor([0]), torch.tensor([3]))
    without = losses.partial_plackett_luce(logs(EXP_SCORES), *pair, mask([0, 1, 1, 0]))
    within = losses.partial_plackett_luce(logs(EXP_SCORES), *pair, mask([1, 1, 1, 1]))
    assert within.item() == without.item()
    # 4 / (2 + 1 + 4), no 3 in it
    assert within.item() == pytest.approx(-math.log(3 / 10) - math.log(4 / 7))


def test_bradley_terry_by_hand():
    """It is -log of the preferred passage's share of the pair; nothing else is looked at."""
    scores = logs(EXP_SCORES, EXP_SCORES)
    actual = losses.bradley_terry(scores, torch.tensor([3, 2]), torch.tensor([1, 0]))
    assert actual.tolist() == pytest.approx([-math.log(4 / 6), -math.log(1 / 4)])


def test_numerator_share_by_hand():
    """Shares are of the positives' sum alone; a row without positives has none."""
    scores = logs(EXP_SCORES, EXP_SCORES)
    actual = losses.numerator_share(scores, mask([1, 0, 1, 1], [0, 0, 0, 0]))
    assert actual[0].tolist() == pytest.approx([3 / 8, 0.0, 1 / 8, 4 / 8])
    assert actual[1].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_mean_counted():
    """Only counted rows enter the mean and get a gradient, whatever the others hold."""
    values = torch.tensor([2.0, math.inf, 4.0], requires_grad=True)
    mean = losses.mean_counted(values, torch.tensor([True, False, True]))
    mean.backward()
    assert mean.item() == 3.0
    assert values.grad.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("rows", [0, 2])
def test_mean_counted_of_nothing(rows):
    """Without a counted row the mean is 0 and a training step on it still works."""
    values = torch.ones(rows, requires_grad=True)
    mean = losses.mean_counted(values, torch.zeros(rows, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0.0
    assert values.grad.tolist() == [0.0] * rows


@pytest.mark.parametrize("column", [4, -2])
def test_a_target_outside_is_refused(column):
    """A column that does not exist is an error, never a row without a target."""
    scores, outside, inside = logs(EXP_SCORES), torch.tensor([column]), torch.tensor([0])
    everything = mask([1, 1, 1, 1])
    with pytest.raises(RuntimeError):
        losses.info_nce(scores, outside, everything)
    with pytest.raises(RuntimeError):
        losses.multiple_negatives_ranking(scores, outside)
    for pair in [(outside, inside), (inside, outside)]:
        with pytest.raises(RuntimeError):
            losses.partial_plackett_luce(scores, *pair, everything)
        with pytest.raises(RuntimeError):
            losses.bradley_terry(scores, *pair)


def test_a_pair_needs_both_passages():
    """-1 means no target to InfoNCE only; a pair without one of its passages is refused."""
    scores, none, some = logs(EXP_SCORES), torch.tensor([-1]), torch.tensor([0])
    with pytest.raises(RuntimeError):
        losses.partial_plackett_luce(scores, none, some, mask([1, 1, 1, 1]))
    with pytest.raises(RuntimeError):
        losses.bradley_terry(scores, some, none)
