"""Says what `init` made of the raw files, in figures that add up."""

import shlex
from collections.abc import Iterator
from urllib.parse import unquote

from syntriever.intake.make import Draft, Plan

SHOWN = 5  # names of files or folders


def lines(plan: Plan, draft: Draft) -> Iterator[str]:
    """Say what was read, skipped and made, in figures that add up."""
    yield from of_passages(plan, draft)
    yield from _of_queries(plan, draft)


def of_passages(plan: Plan, draft: Draft) -> Iterator[str]:
    """Say what was read and skipped, how many passages that made, and where most of them lie."""
    notes, counts = draft.notes, draft.counts
    encodings = ", ".join(f"{name} {count}" for name, count in sorted(notes.encodings.items()))
    unit = "rows" if notes.columns else "files"
    yield f"read: {notes.read} {unit} ({encodings})"
    for name, encoding in list(notes.guessed.items())[:SHOWN]:
        yield f"  {name}: taken for {encoding}, a guess; --encoding says it"
    if notes.columns:
        yield "  columns: " + ", ".join(f"{role} = {name}" for role, name in notes.columns.items())
    skipped = sum(map(len, notes.skipped.values()))
    yield f"skipped: {skipped} files" if skipped else "skipped: none"
    for reason, names in sorted(notes.skipped.items()):
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"  {len(names)} {reason}: {', '.join(names[:SHOWN])}{more}"
    yield (
        f"passages: {counts['passages']} of up to {plan.chunk_words} words, overlap "
        f"{plan.overlap} = {counts['kept']} kept + {counts['duplicates']} exact duplicates + "
        f"{counts['blank']} blank"
    )
    yield from _of_folders(draft)


def _of_folders(draft: Draft) -> Iterator[str]:
    """Say which folders the passages are of, and which files are hardly meant."""
    if len(draft.parts) > 1 and not draft.notes.columns:
        largest = sorted(draft.parts.items(), key=lambda one: (-one[1], one[0]))
        shown = [
            f"{unquote(name)}/ {n}" if name else f"no folder {n}" for name, n in largest[:SHOWN]
        ]
        if others := largest[SHOWN:]:
            shown.append(f"{len(others)} others {sum(n for _, n in others)}")
        yield "  kept by folder: " + ", ".join(shown)
    if found := draft.notes.generated:
        patterns = sorted(found)
        yield (
            "  files that a documentation tool made, perhaps copies and indexes: "
            + ", ".join(f"{one} {found[one]}" for one in patterns)
            + "; without them: "
            + " ".join(f"--exclude {shlex.quote(one)}" for one in patterns)
        )


def _of_queries(plan: Plan, draft: Draft) -> Iterator[str]:
    counts = draft.counts
    judged = {name: len(qrels) for name, qrels in draft.qrels.items()}
    others = len(draft.queries) - sum(judged.values())
    parts = [f"{count} {name}" for name, count in judged.items() if count]
    yield f"queries: {len(draft.queries)} = " + " + ".join([*parts, f"{others} without labels"])
    if plan.qrels:
        yield (
            f"labels: {counts['labels']}, of which {counts['labels_on_documents']} on whole "
            "documents: each of those makes all passages of its document relevant"
        )
    if counts["twins"]:
        yield f"left out: {counts['twins']} queries without labels, with the words of a test query"
    if plan.test_queries:
        yield (
            f"written for dev and test: {counts['asked']} asked, {counts['unanswered']} "
            f"unanswered, {counts['repeated']} repeated; {len(draft.held_out)} passages are held "
            "out: no training query is written for them"
        )
