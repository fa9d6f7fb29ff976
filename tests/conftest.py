"""What all tests share. `stages` is imported first: it fixes threads and instruction sets."""

import stages  # noqa: F401, I001 - before anything heavy

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def blank_project(tmp_path_factory):
    """A project in which no stage has run. Tests copy it before they change anything."""
    from project import make_project

    return make_project(tmp_path_factory.mktemp("blank") / "project")


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory, blank_project):
    """A project in which all stages have run once. Tests only read it."""
    import shutil

    from project import run_pipeline

    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(blank_project, folder)
    run_pipeline(folder)
    return folder


@pytest.fixture
def project(tmp_path, finished_project, monkeypatch):
    """A copy of the finished project, entered."""
    import shutil

    folder = tmp_path / "project"
    shutil.copytree(finished_project, folder)
    monkeypatch.chdir(folder)
    return folder
