"""One page that shows what a run did: `collect` gathers, `charts` draws, `page` puts together."""

from syntriever.report.collect import collect
from syntriever.report.page import build

__all__ = ["build", "collect"]
