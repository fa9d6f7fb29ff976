"""Laws that the losses obey on any scores and masks: gradients, masking, symmetry, stability."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from syntriever import losses

many_cases = settings(deadline=None, derandomize=True, max_examples=30)


@dataclass(frozen=True)
class Case:
    """One batch with what any of the losses asks for."""

    scores: Tensor
    positives: Tensor
    candidates: Tensor
    weights: Tensor
    target: Tensor
    preferred: Tensor
    rejected: Tensor

    def marked(self, column: Tensor) -> Tensor:
        """The mask of one column a row; -1 marks none."""
        return column[:, None] == torch.arange(self.scores.shape[1])


@dataclass(frozen=True)
class Law:
    """A loss on a case, with the columns it must attract, repel and look at."""

    loss: Callable[[Case], Tensor]
    attracted: Callable[[Case], Tensor]
    repelled: Callable[[Case], Tensor]
    seen: Callable[[Case], Tensor]


def everything(case: Case) -> Tensor:
    return torch.ones_like(case.positives)


LAWS = {
    "soft_nearest_neighbor": Law(
        lambda case: losses.soft_nearest_neighbor(case.scores, case.positives, case.candidates),
        lambda case: case.positives,
        lambda case: case.candidates & ~case.positives,
        lambda case: case.candidates | case.positives,
    ),
    "info_nce": Law(
        lambda case: losses.info_nce(case.scores, case.target, case.candidates),
        lambda case: case.marked(case.target),
        lambda case: case.candidates & ~case.marked(case.target),
        lambda case: case.candidates | case.marked(case.target),
    ),
    "multiple_negatives_ranking": Law(
        lambda case: losses.multiple_negatives_ranking(case.scores, case.target),
        lambda case: case.marked(case.target),
        lambda case: ~case.marked(case.target),
        everything,
    ),
    "multi_positive_info_nce": Law(
        lambda case: losses.multi_positive_info_nce(
            case.scores, case.positives, case.candidates, case.weights
        ),
        lambda case: case.positives,
        lambda case: case.candidates & ~case.positives,
        lambda case: case.candidates | case.positives,
    ),
    "partial_plackett_luce": Law(
        lambda case: losses.partial_plackett_luce(
            case.scores, case.preferred, case.rejected, case.candidates
        ),
        # The rejected passage is repelled by the first draw and attracted by the second.
        lambda case: case.marked(case.preferred),
        lambda case: case.candidates & ~case.marked(case.preferred) & ~case.marked(case.rejected),
        lambda case: case.candidates | case.marked(case.preferred) | case.marked(case.rejected),
    ),
    "bradley_terry": Law(
        lambda case: losses.bradley_terry(case.scores, case.preferred, case.rejected),
        lambda case: case.marked(case.preferred),
        lambda case: case.marked(case.rejected),
        lambda case: case.marked(case.preferred) | case.marked(case.rejected),
    ),
}
PREFERENCE_LOSSES = ("partial_plackett_luce", "bradley_terry")
each_loss = pytest.mark.parametrize("name", LAWS)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(2, 6))

    def matrix(element: st.SearchStrategy, dtype: torch.dtype) -> Tensor:
        line = st.lists(element, min_size=columns, max_size=columns)
        return torch.tensor(draw(st.lists(line, min_size=rows, max_size=rows)), dtype=dtype)

    def column(first: int, last: int) -> Tensor:
        place = st.integers(first, last)
        return torch.tensor(draw(st.lists(place, min_size=rows, max_size=rows)))

    preferred = column(0, columns - 1)
    return Case(
        scores=matrix(st.floats(-20, 20), torch.float64),
        positives=matrix(st.booleans(), torch.bool),
        candidates=matrix(st.booleans(), torch.bool),
        weights=matrix(st.just(0.0) | st.floats(0.01, 5), torch.float64),
        target=column(-1, columns - 1),
        preferred=preferred,
        rejected=(preferred + column(1, columns - 1)) % columns,  # never the preferred one
    )


def with_gradient(law: Law, case: Case) -> tuple[Tensor, Tensor]:
    scores = case.scores.clone().requires_grad_()
    values = law.loss(replace(case, scores=scores))
    (gradient,) = torch.autograd.grad(values.sum(), scores)
    return values.detach(), gradient


def extreme_case(dtype: torch.dtype) -> Case:
    """Every row of four scores out of -1000, 0 and 1000, first with masks, then without any."""
    scores = torch.tensor(list(itertools.product([-1000.0, 0.0, 1000.0], repeat=4)), dtype=dtype)
    scores = torch.cat([scores, scores])
    rows = len(scores)
    some = torch.arange(rows) < rows // 2
    return Case(
        scores=scores,
        positives=torch.tensor([True, True, False, False]) & some[:, None],
        candidates=torch.ones(rows, 4, dtype=torch.bool) & some[:, None],
        weights=torch.tensor([0.6, 0.4, 0.0, 0.0]).expand(rows, 4),
        target=torch.where(some, 0, -1),
        preferred=torch.zeros(rows, dtype=torch.long),
        rejected=torch.ones(rows, dtype=torch.long),
    )


@each_loss
def test_gradcheck(name):
    """Gradients are those of the value, in float64, rows without positives or target included."""
    generator = torch.Generator().manual_seed(0)
    case = Case(
        scores=torch.randn(4, 5, generator=generator, dtype=torch.float64).requires_grad_(),
        positives=torch.rand(4, 5, generator=generator) < 0.5,
        candidates=torch.rand(4, 5, generator=generator) < 0.7,
        weights=torch.rand(4, 5, generator=generator, dtype=torch.float64),
        target=torch.tensor([0, 3, -1, 4]),
        preferred=torch.tensor([0, 1, 2, 3]),
        rejected=torch.tensor([4, 0, 1, 2]),
    )
    case.positives[2] = False
    assert torch.autograd.gradcheck(
        lambda scores: LAWS[name].loss(replace(case, scores=scores)), case.scores
    )


def test_gradcheck_of_shares_and_mean():
    """numerator_share and mean_counted have true gradients as well."""
    scores = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
    positives = torch.tensor([[True, False, True], [False, False, False]])
    assert torch.autograd.gradcheck(
        lambda scores: losses.numerator_share(scores, positives), scores
    )
    assert torch.autograd.gradcheck(
        lambda scores: losses.mean_counted(scores[:, 0], positives.any(dim=1)), scores
    )


@each_loss
@many_cases
@given(case=cases(), shift=st.floats(-50, 50))
def test_shift_invariance(name, case, shift):
    """A constant added to a row's scores changes nothing."""
    shifts = shift * torch.arange(1, len(case.scores) + 1)[:, None]
    moved = LAWS[name].loss(replace(case, scores=case.scores + shifts))
    torch.testing.assert_close(moved, LAWS[name].loss(case), rtol=1e-9, atol=1e-9)


@each_loss
@many_cases
@given(case=cases(), filler=st.sampled_from([0.0, 1000.0, float("inf"), float("nan")]))
def test_masked_columns_do_not_matter(name, case, filler):
    """What no mask lets in may hold anything: value and gradient stay, its own gradient is 0."""
    unseen = ~LAWS[name].seen(case)
    values, gradient = with_gradient(LAWS[name], case)
    filled = replace(case, scores=case.scores.masked_fill(unseen, filler))
    filled_values, filled_gradient = with_gradient(LAWS[name], filled)
    assert torch.equal(filled_values, values)
    assert torch.equal(filled_gradient, gradient)
    assert not gradient[unseen].any()


@each_loss
@many_cases
@given(case=cases(), data=st.data())
def test_column_order_does_not_matter(name, case, data):
    """Passages may stand in any order."""
    order = torch.tensor(data.draw(st.permutations(range(case.scores.shape[1]))))
    # Column c moves to place[c]; the -1 of a row without a target stays.
    place = torch.cat([order.argsort(), torch.tensor([-1])])
    moved = Case(
        scores=case.scores[:, order],
        positives=case.positives[:, order],
        candidates=case.candidates[:, order],
        weights=case.weights[:, order],
        target=place[case.target],
        preferred=place[case.preferred],
        rejected=place[case.rejected],
    )
    torch.testing.assert_close(LAWS[name].loss(moved), LAWS[name].loss(case), rtol=1e-9, atol=1e-9)


@each_loss
@many_cases
@given(case=cases())
def test_directions(name, case):
    """Losses are not negative; positives are only attracted, negatives only repelled."""
    values, gradient = with_gradient(LAWS[name], case)
    assert values.min() >= -1e-12
    assert (gradient[LAWS[name].attracted(case)] <= 1e-12).all()
    assert (gradient[LAWS[name].repelled(case)] >= -1e-12).all()


@many_cases
@given(case=cases())
def test_one_positive_makes_three_losses_equal(case):
    """With one positive the soft-nearest-neighbour and the multi-positive loss are InfoNCE."""
    one = case.marked(case.target)
    expected = LAWS["info_nce"].loss(case)
    soft = losses.soft_nearest_neighbor(case.scores, one, case.candidates)
    torch.testing.assert_close(soft, expected, rtol=1e-9, atol=1e-9)
    weighted = losses.multi_positive_info_nce(case.scores, one, case.candidates, case.weights + 0.1)
    torch.testing.assert_close(weighted, expected, rtol=1e-9, atol=1e-9)


@many_cases
@given(case=cases())
def test_more_positives_never_cost_more(case):
    """Soft nearest neighbour is at most the loss of any one positive in the same denominator."""
    denominator = case.positives | case.candidates
    soft = losses.soft_nearest_neighbor(case.scores, case.positives, denominator)
    for row, column in case.positives.nonzero().tolist():
        target = torch.full((len(soft),), column)
        assert soft[row] <= losses.info_nce(case.scores, target, denominator)[row] + 1e-12


@many_cases
@given(case=cases(), rise=st.floats(0, 30), data=st.data())
def test_raising_a_positive_never_raises_the_loss(case, rise, data):
    """However far a positive's score rises, soft nearest neighbour does not get worse."""
    column = data.draw(st.integers(0, case.scores.shape[1] - 1))
    raised = case.scores.clone()
    raised[:, column] += rise * case.positives[:, column]
    before = LAWS["soft_nearest_neighbor"].loss(case)
    after = LAWS["soft_nearest_neighbor"].loss(replace(case, scores=raised))
    assert (after <= before + 1e-12).all()


@many_cases
@given(case=cases(), factor=st.floats(0.01, 100))
def test_only_the_ratio_of_weights_counts(case, factor):
    """Weights are normalised a row: a common factor changes nothing."""
    scaled = LAWS["multi_positive_info_nce"].loss(replace(case, weights=case.weights * factor))
    expected = LAWS["multi_positive_info_nce"].loss(case)
    torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=1e-9)


@many_cases
@given(case=cases())
def test_numerator_share_is_the_pull_on_each_positive(case):
    """Shares sum to 1, and the loss's gradient on a positive is its softmax less its share."""
    share = losses.numerator_share(case.scores, case.positives)
    torch.testing.assert_close(share.sum(dim=1), case.positives.any(dim=1).double())
    assert not share[~case.positives].any()
    _, gradient = with_gradient(LAWS["soft_nearest_neighbor"], case)
    seen = case.scores.masked_fill(~(case.positives | case.candidates), -torch.inf)
    pull = (seen.softmax(dim=1) - share)[case.positives]
    torch.testing.assert_close(gradient[case.positives], pull, rtol=1e-9, atol=1e-9)


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores(name, dtype):
    """Scores of +-1000 give finite values and gradients, of the scores' dtype, one a row."""
    case = extreme_case(dtype)
    values, gradient = with_gradient(LAWS[name], case)
    assert values.shape == (len(case.scores),)
    assert values.dtype == dtype
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert values.max() >= 1999  # at the worst the loss is the distance itself
    assert gradient.abs().max() <= 2
    assert losses.numerator_share(case.scores, case.positives).isfinite().all()


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_still_teach(name, dtype):
    """A positive at -1000 below a negative at 1000 costs 2000 and gets the whole gradient."""
    case = extreme_case(dtype)
    row = replace(
        case,
        scores=torch.tensor([[-1000.0, -1000.0, 1000.0, 0.0]], dtype=dtype),
        positives=torch.tensor([[True, False, False, False]]),
        candidates=torch.ones(1, 4, dtype=torch.bool),
        weights=torch.ones(1, 4),
        target=torch.tensor([0]),
        preferred=torch.tensor([0]),
        rejected=torch.tensor([2]),
    )
    values, gradient = with_gradient(LAWS[name], row)
    assert values.tolist() == [2000.0]
    assert gradient[0, 0] == -1
    assert gradient[0, 2] == 1


@pytest.mark.parametrize("name", [name for name in LAWS if name not in PREFERENCE_LOSSES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_without_positives_is_silent(name, dtype):
    """Its loss and its gradient are 0, with candidates or without, and no NaN arises."""
    case = extreme_case(dtype)
    silent = len(case.scores) // 2  # the second half has neither positives nor candidates
    for candidates in (case.candidates, torch.ones_like(case.candidates)):
        with torch.autograd.set_detect_anomaly(True):  # refuses a NaN anywhere on the way back
            values, gradient = with_gradient(LAWS[name], replace(case, candidates=candidates))
        assert not values[silent:].any()
        assert not gradient[silent:].any()
        assert gradient[:silent].any()
