"""How `init` cuts a text: passages that cover it, overlap, fit, and begin with their headings."""

from itertools import pairwise

import pytest
from raw_files import LONG

from syntriever.intake import chunking


def test_passages_cover_the_text_overlap_and_fit():
    """Every sentence stands in some passage, neighbours share some, none is too long."""
    parts = chunking.splitter(40, 10)(LONG, False)
    assert all(chunking.words(part) <= 40 for part in parts)
    sentences = LONG.splitlines()
    assert all(any(sentence in part for part in parts) for sentence in sentences)
    shared = [set(a.splitlines()) & set(b.splitlines()) for a, b in pairwise(parts)]
    assert all(len(one) == 1 for one in shared)
    assert sum(map(len, chunking.splitter(40, 0)(LONG, False))) < len(LONG)


@pytest.mark.parametrize("text", ["x" * 5_000, "永" * 500])
def test_text_without_blanks_is_cut_too(text):
    """A word of 5,000 letters, and a language that writes no spaces."""
    parts = chunking.splitter(20, 0)(text, False)
    assert "".join(parts) == text and all(chunking.words(part) <= 20 for part in parts)


def numbered(sentence):
    """A line of 1,000 of these, each with its number; far longer than the splitter gets whole."""
    return "".join(sentence.format(i) for i in range(1_000))


@pytest.mark.parametrize("overlap", [0, 10])
@pytest.mark.parametrize(
    "line",
    [
        numbered("This is sentence number {}. "),
        numbered("no sentence ends at {}, for that takes a capital. "),
        numbered("[{},永遠],"),
        "x" * 50_000,
    ],
)
def test_a_long_line_is_cut_as_if_it_were_whole(line, overlap, monkeypatch):
    """In windows, which no passage shows: no text is lost, none is too long."""
    text = f"Before.\n\n{line}\n\nAfter."
    parts = chunking.splitter(40, overlap)(text, False)
    assert all(chunking.words(part) <= 40 for part in parts)
    assert overlap or "".join("".join(parts).split()) == "".join(text.split())
    monkeypatch.setattr(chunking, "LINE", len(text))
    assert chunking.splitter(40, overlap)(text, False) == parts


@pytest.mark.parametrize("is_markdown", [False, True])
def test_no_more_than_a_window_of_a_long_line_is_looked_at(is_markdown, monkeypatch):
    """For each passage again: of the whole line that would take its length's square."""
    seen, count = [], chunking.words
    monkeypatch.setattr(chunking, "words", lambda text: seen.append(len(text)) or count(text))
    text = numbered("no sentence ends at {}, for that takes a capital. ") + "\nAfter"
    parts = chunking.splitter(40, 10)(text, is_markdown)
    assert max(seen) <= 40 * chunking.LINE + 1 < len(text) / 10
    assert set(text.split()) == set(" ".join(parts).split())


@pytest.mark.parametrize("most", [1, 2])
def test_a_long_run_of_blanks_ends(most):
    """It counts no word, and may fill a window with a part of one passage, or with none."""
    text = "a" + " " * 1_000 + "b c " + " " * 1_000 + "d"
    parts = chunking.splitter(most, 0)(text, False)
    assert " ".join(parts).split() == text.split()


def test_no_passage_only_repeats_the_one_before(monkeypatch):
    """Where a window ends in a run of blanks, what overlaps could stand alone."""
    monkeypatch.setattr(chunking, "LINE", 5)
    blanks = " " * 21
    text = (
        f"{' ' * 20}永{' ' * 20}永\n  One two.{blanks}One two.{blanks * 2}永One two. \nOne two. "
        f"One two. 永永One two.{blanks}永永One two. 永永永{blanks}One two. \n{blanks}永"
    )
    parts = chunking.splitter(10, 5)(text, False)
    assert not any(after in before for before, after in pairwise(parts))


def headed(lines, words):
    """A section of sentences after lines that stand by themselves."""
    sentences = (f"Sentence {i} says a little more of it." for i in range(words // 9))
    return "\n\n".join([*lines, " ".join(sentences)])


@pytest.mark.parametrize("is_markdown", [False, True])
def test_a_heading_goes_where_its_text_is(is_markdown):
    """Not to the end of the passage before, whose subject it isn't; no text is lost."""
    mark = "## " if is_markdown else ""
    text = "\n\n".join(headed([f"{mark}zlib.crc{i}(data)"], 36 + 9 * i) for i in range(6))
    parts = chunking.splitter(60, 15)(text, is_markdown)
    assert all(chunking.words(part) <= 60 + chunking.HEADING for part in parts)
    for i in range(6):
        holding = [part for part in parts if f"zlib.crc{i}(data)" in part]
        assert holding and all(not part.endswith(f"zlib.crc{i}(data)") for part in holding)
        assert any("(data)\n\nSentence 0 says" in part for part in holding)
        assert all(part.count(f"crc{i}(data)") == 1 for part in holding)
    assert set(text.split()) == set(" ".join(parts).split())


@pytest.mark.parametrize(
    "text",
    [
        headed(["One heading", "module.another()"], 90),  # two in a row
        headed(["It ends a sentence."], 90) + "\n\n" + headed(["- an item"], 90),
        headed([], 90) + "\n\nThe last line",
        "\n\n".join(f"Line {i} by itself" for i in range(60)),
    ],
)
def test_nothing_is_lost_where_headings_move(text):
    """Each line and sentence stands in some passage, in order, however headings lie."""
    parts = chunking.splitter(40, 0)(text, False)
    assert " ".join(" ".join(parts).split()) == " ".join(text.split())
    assert all(chunking.words(part) <= 40 + chunking.HEADING for part in parts)
