"""How much a trained encoder may lose before people are warned. Light: nothing is imported."""

# nDCG@10, from 0 to 1, lost against the untrained encoder on a collection that was not trained on.
# A larger loss is a warning: of `transfer`, in a bundle's card and in the tables.
TOLERATED_FALL = 0.02
