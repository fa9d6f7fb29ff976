"""`python -m stages.collection get NAME` finds or downloads a collection."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import requests

import stages
from stages import collection


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Each test has a repository and a list of folders of its own."""
    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.chdir(repository)
    monkeypatch.delenv(collection.VARIABLE, raising=False)

    def no_network(*_args, **_kwargs):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", no_network)


def make(folder):
    """Make a folder that looks like a collection."""
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("{}\n")


def get(monkeypatch, capsys, *arguments):
    """Run the command; return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["collection", "get", *arguments])
    with pytest.raises(SystemExit) as end:
        stages.run(collection.app)
    return end.value.code, *capsys.readouterr()


def serve(monkeypatch, content):
    """Let BEIR's server answer with these bytes; return the list of URLs that it is asked for."""
    asked = []

    class Answer:
        headers = {"Content-Length": str(len(content))}  # noqa: RUF012 - as requests has it

        def iter_content(self, chunk_size):
            yield content

    def answer(url, **_kwargs):
        asked.append(url)
        return Answer()

    monkeypatch.setattr(requests, "get", answer)
    return asked


def zipped(**files):
    """Return a zip file's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/").replace("_jsonl", ".jsonl"), text)
    return buffer.getvalue()


def test_a_collection_is_found_in_the_listed_folders(tmp_path, monkeypatch, capsys):
    """The first folder that has it wins; stdout holds the options alone."""
    first, second = tmp_path / "first", tmp_path / "second"
    make(second / "scifact")
    make(Path("data/collections/scifact"))
    monkeypatch.setenv(collection.VARIABLE, os.pathsep.join(["", str(first), str(second)]))
    code, out, err = get(monkeypatch, capsys, "scifact")
    assert (code, out) == (0, f"-S collection.path={second / 'scifact'}\n")
    assert "scifact lies in" in err
    assert "data/teacher/scifact.jsonl does not exist" in err


def test_recorded_answers_of_the_same_name_come_along(monkeypatch, capsys):
    """Where data/teacher has a file of that name, teacher.recorded points to it."""
    make(Path("data/collections/mine"))
    Path("data/teacher").mkdir()
    Path("data/teacher/mine.jsonl").touch()
    _, out, _ = get(monkeypatch, capsys, "mine")
    assert out == (
        "-S collection.path=data/collections/mine -S teacher.recorded=data/teacher/mine.jsonl\n"
    )


def test_only_a_committed_collection_has_a_relative_path(monkeypatch, capsys):
    """Queued experiments run in a copy without git-ignored files, so those need the full path."""
    subprocess.run(["git", "init", "-q"], check=True)
    Path(".gitignore").write_text("/data/collections/*\n!/data/collections/mine/\n")
    make(Path("data/collections/mine"))
    make(Path("data/collections/scifact"))
    assert "=data/collections/mine\n" in get(monkeypatch, capsys, "mine")[1]
    assert f"={Path.cwd()}/data/collections/scifact\n" in get(monkeypatch, capsys, "scifact")[1]


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "/tmp", ".hidden"])
def test_a_name_is_a_plain_folder_name(monkeypatch, capsys, name):
    """Nothing outside the listed folders can be reached."""
    code, out, err = get(monkeypatch, capsys, name)
    assert (code, out) == (1, "")
    assert "no plain folder name" in err


def test_a_path_that_the_shell_would_split_is_refused(tmp_path, monkeypatch, capsys):
    """The options stand unquoted in a command line."""
    make(tmp_path / "my collections" / "mine")
    monkeypatch.setenv(collection.VARIABLE, str(tmp_path / "my collections"))
    code, out, err = get(monkeypatch, capsys, "mine")
    assert (code, out) == (1, "")
    assert "Move the collection to a plainer path" in err


def test_without_network_the_message_says_what_is_where(tmp_path, monkeypatch, capsys):
    """One line with all names found, the places searched and the variable; nothing is left."""
    make(tmp_path / "there" / "scifact")
    make(tmp_path / "there" / "cranfield")
    (tmp_path / "there" / "no-collection").mkdir()
    make(Path("data/collections/concepts"))
    monkeypatch.setenv(collection.VARIABLE, str(tmp_path / "there"))
    code, out, err = get(monkeypatch, capsys, "scifacts")
    assert (code, out) == (1, "")
    assert "no collection 'scifacts'" in err
    assert "can't be reached (ConnectionError)" in err
    assert f"{tmp_path / 'there'}: cranfield, scifact; in data/collections: concepts." in err
    assert collection.VARIABLE in err
    assert "Traceback" not in err
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [
        "cranfield",
        "no-collection",
        "scifact",
    ]


def test_a_collection_is_downloaded_to_the_first_writable_folder(tmp_path, monkeypatch, capsys):
    """It is unpacked under a temporary name, then stands there whole and is found again."""
    absent, read_only, place = (tmp_path / name for name in ("absent", "read_only", "place"))
    read_only.mkdir()
    place.mkdir()
    listed = os.pathsep.join(map(str, (absent, read_only, place)))
    monkeypatch.setenv(collection.VARIABLE, listed)
    monkeypatch.setattr(os, "access", lambda path, mode: path != read_only)
    asked = serve(monkeypatch, zipped(nf__corpus_jsonl="{}\n", nf__queries_jsonl="{}\n"))
    for _ in range(2):
        code, out, _ = get(monkeypatch, capsys, "nf")
        assert (code, out) == (0, f"-S collection.path={place / 'nf'}\n")
    assert asked == [collection.BEIR_URL.format(name="nf")]
    assert [path.name for path in place.iterdir()] == ["nf"]
    assert {path.name for path in (place / "nf").iterdir()} == {"corpus.jsonl", "queries.jsonl"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>404 Not Found</html>", "none of that name"),
        (zipped(nf__corpus_jsonl="{}\n")[:-30], "broke off"),
        (zipped(nf__android__corpus_jsonl="{}\n"), "holds no corpus.jsonl"),
    ],
)
def test_what_is_no_collection_leaves_nothing(monkeypatch, capsys, content, words):
    """A page of words, a download that broke off, an archive of something else."""
    serve(monkeypatch, content)
    code, out, err = get(monkeypatch, capsys, "nf")
    assert (code, out) == (1, "")
    assert words in err
    assert list(Path("data/collections").iterdir()) == []
