"""Which teacher the params open, and what may choose one besides."""

import pytest
from fake_teacher import FakeTeacher, talk
from project import ROOT, set_params

from syntriever import conversation, params, teacher_choice
from syntriever.errors import SyntrieverError
from syntriever.teacher import RecordedTeacher
from syntriever.teacher.base import Answer, Request
from syntriever.teacher.settings import Sampling

LOCAL = {"teacher.backend": "openai", "teacher.model": "m", "teacher.base_url": "http://host:1/v1"}


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Params with some changes, in a folder of their own, as (teacher, runtime.teacher)."""
    monkeypatch.chdir(tmp_path)
    for variable in (teacher_choice.KEY, "DVC_ROOT", *teacher_choice.NOT_PARAMS):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())

    def chosen(**changes):
        set_params(tmp_path, changes)
        return params.load(params.VerifyView).teacher, params.load_all().runtime.teacher

    return chosen


def test_the_default_is_recorded_answers(chosen, monkeypatch):
    """Without a change nothing is asked, whatever the environment says."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    recorded = str(ROOT / "data/teacher/concepts.jsonl")
    assert isinstance(
        teacher_choice.open_teacher(*chosen(**{"teacher.recorded": recorded})), RecordedTeacher
    )


@pytest.mark.parametrize(("mode", "kind"), [("live", "LiveTeacher"), ("batch", "BatchTeacher")])
def test_the_mode_chooses_how_a_server_is_asked(chosen, mode, kind):
    """runtime.teacher.mode opens the one or the other; a server of one's own needs no key."""
    teacher = teacher_choice.open_teacher(*chosen(**LOCAL | {"runtime.teacher.mode": mode}))
    assert type(teacher).__name__ == kind
    teacher.close()


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("OPENAI_BASE_URL", "http://elsewhere/v1", "teacher.base_url"),
        ("OPENAI_API_BASE", "http://elsewhere/v1", "teacher.base_url"),
        ("OPENAI_BASE_URL", "no address", "teacher.base_url"),
        ("OPENAI_MODEL", "another", "teacher.model"),
        ("OPENAI_MODEL_NAME", "another", "teacher.model"),
    ],
)
def test_a_variable_cannot_choose_another_teacher(chosen, monkeypatch, variable, value, name):
    """DVC sees no variable: one that names another teacher is refused in words (B06)."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SyntrieverError, match=rf"{variable} .*{name}"):
        teacher_choice.open_teacher(*chosen(**LOCAL))


def test_a_variable_that_says_the_same_is_no_harm(chosen, monkeypatch):
    """The params' own address and model may stand in the environment too."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host:1/v1/")
    monkeypatch.setenv("OPENAI_MODEL", "m")
    teacher_choice.open_teacher(*chosen(**LOCAL)).close()
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    teacher_choice.open_teacher(*chosen(**LOCAL | {"teacher.base_url": None})).close()


def test_settings_and_limits_are_those_of_the_params(chosen):
    """What determines answers and what only limits the asking reach the teacher unchanged."""
    changes = {
        "teacher.seed": 3,
        "teacher.max_tokens_field": "max_tokens",
        "teacher.sampling.relabel.temperature": None,
        "runtime.teacher.budget_usd": 2.5,
        "runtime.teacher.requests_per_minute": 60,
    }
    teacher, runtime = chosen(**LOCAL | changes)
    settings, limits = teacher_choice.live_settings(teacher), teacher_choice.limits(runtime)
    assert (settings.base_url, settings.model, settings.seed) == ("http://host:1/v1", "m", 3)
    assert settings.max_tokens_field == "max_tokens"
    assert settings.sampling == {"relabel": Sampling(None, 32)}
    assert (limits.budget_usd, limits.requests_per_minute, limits.concurrency) == (2.5, 60, 16)


def test_changed_prompts_matter_to_recorded_answers_only(chosen):
    """A live teacher answers the prompts as they are: there is nothing to warn about."""
    teacher, _ = chosen(**LOCAL)
    assert not list(teacher_choice.warnings(teacher, ["no such prompt"]))


def test_the_teacher_is_closed_after_an_error(chosen, monkeypatch):
    """Connections and files are let go of, however the talk ends."""
    teacher = FakeTeacher(lambda request: None)
    monkeypatch.setattr(teacher_choice, "open_teacher", lambda *_: teacher)
    with pytest.raises(ZeroDivisionError), conversation.opened(*chosen()):
        raise ZeroDivisionError
    assert teacher.closed


def test_the_teacher_is_told_how_many_requests_come():
    """A progress bar can show the time left."""
    import operator

    hints = []

    class Counting(FakeTeacher):
        def answer(self, requests):
            hints.append(operator.length_hint(requests))
            return super().answer(requests)

    requests = [Request("relabel", (), str(i), "?") for i in range(3)]
    counting = Counting(lambda request: "yes" if request.sample else "?")
    found = talk(counting, reasks=1).verdicts(lambda: iter(requests), {"yes": True}.get, 3)
    assert (found, hints) == ([True] * 3, [3, 3])


def test_texts_that_are_none_stop_as_soon_as_that_is_certain():
    """What `read` refuses is final: the rest would be paid for and thrown away."""
    requests = [Request("cot", (), str(i), "?") for i in range(100)]
    essays = FakeTeacher(lambda request: "an essay")
    with pytest.raises(SyntrieverError, match="unclear: 11"):
        list(talk(essays, allowed=0.1).texts(iter(requests), 100, lambda text: None))
    assert len(essays.asked) == 11


def test_an_answer_that_came_to_nothing_is_not_read():
    """A refusal and a filtered answer are never parsed for a verdict."""
    said = iter([Answer("yes", "refusal"), Answer(None, "content filter"), Answer(" ")])
    requests = [Request("relabel", (), str(i), "?") for i in range(3)]
    heard = talk(FakeTeacher(lambda request: next(said)))
    assert heard.verdicts(lambda: requests, lambda text: True, 3) == [None] * 3
    metrics = heard.metrics()
    assert (metrics["refusals"], metrics["no_answer"], metrics["cut_off"]) == (2, 1, 0)
