"""Writes a collection's corpus from documents: passages cut, named, without exact duplicates."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from syntriever.collection import is_blank, passage_text, text_key
from syntriever.intake.chunking import Splitter
from syntriever.intake.reading import Document


class Places(dict[str, list[str]]):
    """What became of the documents and passages that labels name: name -> ids of kept passages.

    Attributes:
        passages: those of the names that are passages.
        parts: first folder of a document's name ('' without one) -> passages kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.passages: set[str] = set()
        self.parts: Counter[str] = Counter()

    def note(self, name: str, passage_id: str) -> None:
        """Add one passage to a name, once."""
        known = self.setdefault(name, [])
        if passage_id not in known:
            known.append(passage_id)


def write_corpus(
    documents: Iterable[Document],
    split: Splitter,
    path: Path,
    wanted: set[str],
    counts: Counter[str],
) -> Places:
    """Write corpus.jsonl; of texts that are equal but for white space the first is kept.

    Passage n (from 1) of a document is called `<document>#<n>`, whatever else is in the corpus.

    Args:
        documents: read as they are needed.
        split: cuts a text.
        path: the file to write.
        wanted: names that labels mean.
        counts: filled: passages (made), blank, duplicates, kept.

    Returns:
        What became of the wanted names; a passage that was left out as a duplicate is the one that
        was kept.
    """
    first: dict[bytes, str] = {}
    places = Places()
    counts.update(dict.fromkeys(("passages", "blank", "duplicates", "kept"), 0))
    with path.open("w", encoding="utf-8") as file:
        for document in documents:
            parts = split(document.text, document.is_markdown) or [""]
            for number, text in enumerate(parts, start=1):
                counts["passages"] += 1
                passage_id = f"{document.id}#{number}"
                if is_blank(text):
                    counts["blank"] += 1
                    continue
                kept = first.setdefault(_digest(document.title, text), passage_id)
                if kept == passage_id:
                    counts["kept"] += 1
                    places.parts[document.id.rpartition("/")[0].partition("/")[0]] += 1
                    record = {"_id": passage_id, "title": document.title, "text": text}
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                else:
                    counts["duplicates"] += 1
                if document.id in wanted:
                    places.note(document.id, kept)
                if passage_id in wanted:
                    places.note(passage_id, kept)
                    places.passages.add(passage_id)
    return places


def _digest(title: str, text: str) -> bytes:
    whole = text_key(passage_text(title, text))
    return hashlib.blake2b(whole.encode("utf-8"), digest_size=16).digest()
