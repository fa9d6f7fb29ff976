"""What `init` reads of tables: delimiters, quotes, columns, faults by their line."""

import pytest
from raw_files import put, read, refused


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Each test has a folder of its own."""
    monkeypatch.chdir(tmp_path)


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
