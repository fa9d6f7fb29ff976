"""From raw files to a collection in BEIR's format, checked and ready for `prepare`.

`reading` yields documents, `chunking` cuts them into passages, `build` writes these, `labels` reads
queries and labels, `written` has the teacher write test queries, and `make` puts it all into one
folder, which `summary` tells of.
"""
