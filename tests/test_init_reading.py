"""What `init` reads: formats, encodings; and what it says of what it can't read."""

import os
from collections import Counter
from pathlib import Path

import pytest
from raw_files import COLLECTION, corpus, draft, judged, label, put, read, refused, table

from syntriever.files import read_jsonl
from syntriever.intake import labels, markup, reading
from syntriever.intake.encodings import UnreadableError, encoding_of


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Each test has a folder of its own."""
    monkeypatch.chdir(tmp_path)


# Text files


def test_a_folder_is_read_in_the_order_of_its_paths():
    """Subfolders too, sorted by their whole path; ids are paths, titles headings or file names."""
    put("b.txt", "Plain text.\n")
    put("a/deep/page.html", "<title>A page</title><p>Text</p>")
    put("a/note.md", "Intro.\n\nSetext *title*\n====\n\nText.")
    put(".git/config.txt", "hidden")
    put("a/.hidden.md", "hidden")
    documents, notes = read()
    assert [one[:2] for one in documents] == [
        ("a/deep/page.html", "A page"),
        ("a/note.md", "Setext title"),
        ("b.txt", "b"),
    ]
    assert notes.read == 3 and not notes.skipped


def test_one_file_is_a_folder_of_one():
    """A single text file is named like one in a folder."""
    put("only.MD", "# One\nText")
    documents, _ = read("raw/only.MD")
    assert documents == [reading.Document("only.MD", "One", "# One\nText", True)]


def test_what_cannot_be_read_is_skipped_with_its_reason():
    """Binary files, other formats, tables, broken links and pipes; nothing blocks or ends it."""
    put("a.txt", "Text")
    put("image.txt", b"\x89PNG\r\n\x1a\n\x00\x00")
    put("book.pdf", "x")
    put("README", "x")
    put("rows.csv", "id,text\n1,x\n")
    os.symlink("nowhere.txt", "raw/link.txt")
    os.mkfifo("raw/pipe.txt")
    documents, notes = read()
    assert [one.id for one in documents] == ["a.txt"]
    assert notes.skipped == {
        "binary, or UTF-16 without a byte order mark": ["image.txt"],
        "no text format (.pdf)": ["book.pdf"],
        "no text format (no suffix)": ["README"],
        "a table, to be named by itself": ["rows.csv"],
        "can't be read (No such file or directory)": ["link.txt"],
        "no ordinary file": ["pipe.txt"],
    }


def test_files_can_be_left_out():
    """By a pattern of the whole path, or of any part of it; they are counted like all others."""
    for name in ("_sources/a.txt", "a/_sources/b.txt", "a/genindex-A.html", "a/b/c.txt", "a/d.txt"):
        put(name, "Text")
    documents, notes = read(exclude=["_sources", "genindex*", "a/b/*"])
    assert [one.id for one in documents] == ["a/d.txt"]
    assert notes.skipped == {
        "excluded (_sources)": ["_sources/a.txt", "a/_sources/b.txt"],
        "excluded (a/b/*)": ["a/b/c.txt"],
        "excluded (genindex*)": ["a/genindex-A.html"],
    }


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("absent", ["absent does not exist"]),
        ("empty", ["no file that can be read", "it is empty", ".md"]),
        ("pictures", ["no file that can be read", "(.png): 2"]),
        ("table.xlsx", ["a folder, or a file that ends in .txt"]),
    ],
)
def test_sources_without_text_are_refused(source, words):
    """Nothing there, nothing in it, nothing that is text, or a format that nobody reads."""
    Path("empty").mkdir()
    Path("pictures").mkdir()
    for name in ("pictures/a.png", "pictures/b.png", "table.xlsx"):
        Path(name).write_bytes(b"\x00")
    refused(source, *words)


# Encodings

GERMAN = "Größe und Maß des Ofens sind frei wählbar; er heizt für Stunden nach."
FRENCH = "L'œuvre coûte 5 € à l'été – où est-elle ? Ça va, dit-il."
RUSSIAN = "Печь нужно разогреть до двухсот градусов, потом поставить хлеб."
JAPANESE = "これは日本語のテキストです。文字コードの検出を試します。"


@pytest.mark.parametrize(
    ("text", "written_as", "named"),
    [
        (GERMAN, "utf-8", "utf-8"),
        (GERMAN, "utf-8-sig", "utf-8-sig"),
        (GERMAN, "utf-16", "utf-16"),
        (GERMAN, "utf-32", "utf-32"),
        (GERMAN, "latin-1", "cp1252"),
        (FRENCH, "cp1252", "cp1252"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8_r", "koi8_r"),
        (JAPANESE, "shift_jis", "cp932"),
        ("caf\u00e9", "latin-1", "cp1252"),
        ("", "utf-8", "utf-8"),
    ],
)
def test_encodings_are_found_and_named(text, written_as, named):
    """By mark, as UTF-8, else by a guess that is reported as one; the text comes out right."""
    put("a.txt", text.encode(written_as))
    documents, notes = read()
    assert documents[0].text == text
    assert notes.encodings == Counter({named: 1})
    assert notes.guessed == ({} if named.startswith("utf") else {"a.txt": named})


def test_utf16_with_the_other_byte_order():
    """A big-endian mark counts as well as a little-endian one."""
    put("a.txt", b"\xfe\xff" + GERMAN.encode("utf-16-be"))
    assert read()[0][0].text == GERMAN


def test_a_page_that_says_its_encoding_is_believed_unless_it_is_utf8():
    """Many pages say ISO-8859-1 and are UTF-8."""
    page = "<meta charset='iso-8859-2'><p>Łódź</p>"
    put("a.html", page.encode("iso-8859-2"))
    put("b.html", "<meta charset='iso-8859-1'><p>Größe</p>".encode())
    documents, notes = read()
    assert [one.text for one in documents] == ["Łódź", "Größe"]
    assert notes.encodings == {"iso-8859-2": 1, "utf-8": 1}


def test_a_named_encoding_goes_before_all_guesses():
    """--encoding cp1250 reads Central European text; a file that is not in it is skipped."""
    put("a.txt", "Łódź".encode("cp1250"))
    put("b.txt", b"\x81\x83")
    documents, notes = read(encoding="cp1250")
    assert [one.text for one in documents] == ["Łódź"]
    assert notes.skipped == {"not cp1250 throughout": ["b.txt"]} and not notes.guessed
    refused("raw", "--encoding nonsense", "unknown", encoding="nonsense")


def test_a_named_encoding_is_that_of_queries_and_labels_too():
    """As --help says: of all files; but what plainly is UTF-8 is read as such."""
    put("Łódź.txt", "Łódź".encode("cp1250"))
    Path("queries.tsv").write_bytes("id\ttext\nq\tźle\n".encode("cp1250"))
    Path("qrels.tsv").write_bytes("query-id\tcorpus-id\nq\tŁódź.txt\n".encode("cp1250"))
    draft(encoding="cp1250", test_share=1.0)
    assert [one["text"] for one in read_jsonl(COLLECTION / "queries.jsonl")] == ["źle"]
    assert [passage for _, passage, _ in judged("test")] == ["Łódź.txt#1"]
    table("queries.tsv", ("id", "text"), ("q", "źle"))
    assert labels.read_queries(Path("queries.tsv"), "cp1250") == {"q": "źle"}


@pytest.mark.parametrize(("mark", "encoding"), [("\ufeff", "utf-8"), ("", "utf-16")])
def test_a_mark_is_no_part_of_the_first_column(mark, encoding):
    """UTF-8 is read with it; where UTF-16 lacks it, that is said."""
    written = "utf-8" if mark else "utf-16-le"
    Path("rows.csv").write_bytes(f"{mark}id,text\nown,Some text\n".encode(written))
    label("own")
    if not mark:
        refused("rows.csv", "utf-16-le", encoding=encoding)
        encoding = written
    draft("rows.csv", encoding=encoding, test_share=1.0)
    assert list(corpus()) == ["own#1"]


def test_a_linked_folder_is_named_among_what_is_skipped():
    """It is not followed: it may lead back."""
    put("a.txt", "A text")
    Path("elsewhere").mkdir()
    Path("raw/linked").symlink_to(Path("elsewhere").resolve())
    documents, notes = read()
    assert len(documents) == 1 and notes.skipped == {"a link to a folder": ["linked"]}


def test_a_column_plays_one_role():
    """--text-column title: then it is no title."""
    Path("rows.csv").write_text("title\nBread rises\n")
    label("row-1")
    draft("rows.csv", columns={"text": "title"}, test_share=1.0)
    assert corpus() == {"row-1#1": ("", "Bread rises")}


def test_a_block_of_front_matter_is_no_title():
    """Only a YAML parser could read it; the heading serves."""
    put("a.md", "---\ntitle: >-\n  A long\n  title\n---\n# Heading\n\nText")
    documents, _ = read()
    assert [one.title for one in documents] == ["Heading"]


def test_a_character_across_two_blocks_is_whole(monkeypatch):
    """Files are looked at in blocks; a border in a character is no fault."""
    monkeypatch.setattr("syntriever.intake.encodings.BLOCK", 3)
    path = put("a.txt", "aaééé日本")
    assert encoding_of(path) == "utf-8"
    with pytest.raises(UnreadableError, match="binary"):
        encoding_of(put("b.txt", b"aaaaaa\x00"))


# Markup


def test_markdown_titles():
    """The first heading outside code, or the front matter's title; front matter is no text."""
    assert markup.markdown("```\n# no\n```\n\n## Yes `code` [link](x)\n").title == "Yes code link"
    page = markup.markdown('---\ntitle: "From above"\ntags: [a]\n---\n# Heading\nText')
    assert page == ("From above", "# Heading\nText")
    assert markup.markdown("no heading").title == ""


def test_html_gives_what_a_reader_reads():
    """The main part without scripts and navigation; blocks apart, inline parts together."""
    page = markup.html(
        "<!doctype html><title>The\n oven </title><body><nav>menu</nav><main><h1>Oven<a "
        "class=headerlink>¶</a></h1><p>Heat   it <b>well</b>,<br>then wait.</p>"
        "<script>no()</script>"
        "<ul><li>bread<li><p>salt</p></ul><table><tr><td>a<td>b</table><pre>x\n  y</pre></main>"
        "<footer>© us</footer>"
    )
    assert page.title == "The oven"
    assert page.text.split("\n\n")[:2] == ["Oven", "Heat it well,\nthen wait."]
    for kept in ("- bread", "- salt", "a  b", "x\n  y"):
        assert kept in page.text
    for left in ("menu", "no()", "¶", "©"):
        assert left not in page.text


def test_html_that_is_hardly_html():
    """Fragments, a page without a main part, and a nesting that no recursion survives."""
    assert markup.html("just text &amp; more") == ("", "just text & more")
    assert markup.html("<h1>Top</h1><p>Body").title == "Top"
    assert markup.html("<title>Oven — My site</title><h1>Oven</h1>").title == "Oven"
    assert markup.html("<title>My oven</title><h1>Contents</h1>").title == "My oven"
    assert markup.html("<div>" * 20_000 + "deep").text == "deep"
    assert markup.html("<main></main><p>outside").text == "outside"
