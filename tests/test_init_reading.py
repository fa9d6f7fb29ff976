"""What `init` reads: formats, encodings, tables; and what it says of what it can't read."""

import os
from collections import Counter
from pathlib import Path

import pytest
from raw_files import COLLECTION, corpus, draft, judged, label, put, table

from syntriever.errors import SyntrieverError
from syntriever.files import read_jsonl
from syntriever.intake import labels, markup, reading
from syntriever.intake.encodings import UnreadableError, encoding_of


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Each test has a folder of its own."""
    monkeypatch.chdir(tmp_path)


def read(source="raw", encoding=None, exclude=(), **columns):
    """Read all documents; return them and the notes."""
    notes = reading.Notes()
    return list(reading.documents(Path(source), columns, encoding, exclude, notes)), notes


def refused(source, *words, **options):
    """Expect one error that holds all words."""
    with pytest.raises(SyntrieverError) as error:
        read(source, **options)
    for word in words:
        assert word in str(error.value)


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


# Tables


def test_a_semicolon_export_with_a_mark_and_line_breaks_in_quotes():
    """As Excel writes it: first column name clean, commas are text, cells may hold lines."""
    text = '\ufeffID;Title;Body\r\n7;"One; two";"a, b\r\nc"\r\n8;;"She said ""no"""\r\n'
    put("rows.csv", text)
    documents, notes = read("raw/rows.csv")
    assert [one[:3] for one in documents] == [
        ("7", "One; two", "a, b\r\nc"),
        ("8", "", 'She said "no"'),
    ]
    assert notes.columns == {"id": "ID", "title": "Title", "text": "Body"}


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\nid;title;text\n7;T;a, b\n",  # a line for Excel
        '\ufeff"sep=;"\r\nid;title;text\r\n7;T;a, b\r\n',
        'id;title (short, plain);"text, or body"\n7;T;a, b, c\n8;T;a\n',  # more commas
        "id;title|name;text\n7;T;a, b\n",
        "id;title;text\r7;T;a, b\r",
    ],
)
def test_the_delimiter_is_the_one_that_fits(content):
    """Whatever other signs stand in names and cells."""
    put("rows.csv", content)
    (row, *_), _ = read("raw/rows.csv", text=text_column(content))
    assert row.id == "7" and row.text.startswith("a, b")


def text_column(content):
    return "text, or body" if "or body" in content else None


def test_lines_are_counted_from_the_line_for_excel():
    """It is one of the file's."""
    put("rows.csv", 'sep=;\nid;text\n1;"a\nb"\n2\n')
    refused("raw/rows.csv", "line 5", "1 cells")


def test_a_huge_cell_is_read_whole():
    """200 KB in one cell is a document, not nothing."""
    put("rows.csv", f'id,text\n1,"{"word " * 40_000}"\n')
    assert len(read("raw/rows.csv")[0][0].text.split()) == 40_000


EXCEL = '1\t"what, is ""it"" really"\n'


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ('1\t"quoted" and 5" wide\n', '"quoted" and 5" wide'),
        ('1\t5" wide, 6"\n2\tb\n', '5" wide, 6"'),
        ('1\t"begins so\n2\tb\n', '"begins so'),
        ('1\t"to be\n2\tor 5"\n', '"to be'),  # read as quoted, row 2 would be part of row 1
        ('1\t"to be\r2\tor 5"\r', '"to be'),
        (EXCEL + '2\t"b" c\n', '"what, is ""it"" really"'),
        (EXCEL, 'what, is "it" really'),
        (EXCEL + "2\tb\n\n", 'what, is "it" really'),
        (EXCEL + '2\t"b\nc"\n', 'what, is "it" really'),
        ('1\t"a\ttab"\n', "a\ttab"),
        ('1\t"a\ttab and\na line"\n', "a\ttab and\na line"),
    ],
)
def test_quotes_in_tsv(rows, expected):
    """They hold cells together, unless the rows fit only where quotes are signs like others."""
    put("rows.tsv", "id\ttext\n" + rows)
    assert read("raw/rows.tsv")[0][0].text == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_tsv_may_be_quoted_throughout(encoding):
    """Its columns too, after the mark that Excel sets."""
    put("rows.tsv", '"id"\t"text"\r\n"1"\t"One"\r\n"2"\t"Two"\r\n'.encode(encoding))
    documents, _ = read("raw/rows.tsv")
    assert [(one.id, one.text) for one in documents] == [("1", "One"), ("2", "Two")]


def test_columns_are_named_by_the_user_or_found_by_their_names():
    """Named ones go first; without ids rows are called by their number."""
    put("rows.csv", "Doc ID,headline,contents,other\nx 1,T,C,O\n")
    documents, notes = read("raw/rows.csv")
    assert documents[0][:3] == ("x%201", "", "C") and "title" not in notes.columns
    documents, _ = read("raw/rows.csv", title="headline", text="other")
    assert documents[0][:3] == ("x%201", "T", "O")
    put("bare.csv", "text\nfirst\nsecond\n")
    assert [one.id for one in read("raw/bare.csv")[0]] == ["row-1", "row-2"]
    put("titles.csv", "id,title,text\n1,Only a title,\n")
    assert read("raw/titles.csv")[0][0][:3] == ("1", "", "Only a title")


def test_json_lines_may_differ_in_their_fields():
    """BEIR's names and others', numbers as ids, null as empty."""
    put(
        "c.jsonl",
        '{"_id": "a", "title": null, "text": "One"}\n\n{"id": 7, "contents": "Two"}\n'
        '{"id": 8, "title": "T", "text": "Three", "extra": [1]}\n',
    )
    documents, _ = read("raw/c.jsonl")
    assert [one[:3] for one in documents] == [
        ("a", "", "One"),
        ("7", "", "Two"),
        ("8", "T", "Three"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", ["a.csv is empty"]),
        ("a.csv", "id,text\n", ["holds no rows"]),
        (
            "a.csv",
            "id,words\n1,x\n",
            ["line 2", "no column is the text", "'words'", "--text-column"],
        ),
        ("a.csv", "id,text\n1,x\n2,y,z\n", ["line 3", "3 cells", "2 columns"]),
        ("a.csv", 'id,text\n1,"x\ny"\n2\n', ["line 4", "1 cells"]),
        ("a.csv", 'id,text\n1,x\n2,"y\n3,z\n', ["line 3", "begins here", "double quote"]),
        ("a.csv", 'id,text\n1,x\n2,"a "b" c"\n', ["line 3", "double quote", "written twice"]),
        ("a.csv", 'id,"text\n1,x\n', ["line 1", "double quote"]),
        ("a.tsv", 'id\ttext\n1\t"a\tb\n2\tc\n', ["line 2", "double quote"]),
        ("a.csv", "id,text\n1,x\n1,y\n", ["line 3", "'1'", "line 2"]),
        ("a.csv", "id,text\n,x\n", ["line 2", "id is empty"]),
        ("a.csv", "text,text\nx,y\n", ["two columns have one name"]),
        ("a.csv", b"id,text\n1,\x00\n", ["binary"]),
        ("a.jsonl", '{"id": 1, "text": "x"}\n{"id": 2\n', ["line 2", "not JSON"]),
        ("a.jsonl", '{"id": 1, "text": ["x"]}\n', ["line 1", "'text'", "list"]),
        ("a.jsonl", '{"id": 1, "body": "x"}\n{"id": 2, "b": "x"}\n', ["line 2", "no column"]),
        ("a.jsonl", b'{"id": 1, "text": "\xff"}\n', ["line 1", "UTF-8"]),
        ("a.jsonl", '{"id": 1, "text": "\\ud800"}\n', ["line 1", "half a character"]),
    ],
)
def test_faults_of_tables_are_named_with_their_line(name, content, words):
    """One clear message for each."""
    put(name, content)
    refused(f"raw/{name}", *words)


def test_a_column_that_is_not_there_is_refused():
    """With the columns that there are."""
    put("a.csv", "id,text\n1,x\n")
    refused("raw/a.csv", "no column 'body'", "'id', 'text'", text="body")
