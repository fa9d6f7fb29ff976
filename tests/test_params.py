"""params.yaml is checked whole, and faults are named with line and mend."""

import pytest
from project import ROOT

from syntriever import params
from syntriever.errors import SyntrieverError

TEXT = (ROOT / "params.yaml").read_text("utf-8")


def load(tmp_path, text, view=None):
    file = tmp_path / "params.yaml"
    file.write_text(text, "utf-8")
    return params.load_all(file) if view is None else params.load(view, file)


def changed(before, after):
    assert TEXT.count(before) >= 1, before
    return TEXT.replace(before, after, 1)


def line_of(text, start):
    return next(i for i, line in enumerate(text.splitlines(), 1) if line.strip().startswith(start))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("  tau: 0.05", "  tua: 0.05", ["loss.tua is not a param", "did you mean loss.tau"]),
        ("loss:\n", "los:\n", ["los is not a param", "did you mean loss?", "loss is missing"]),
        ("  batch_size: 60", '  batch_size: "32"', ["train_stage1.batch_size", "integer", "'32'"]),
        ("  batch_size: 60", "  batch_size: 1", ["train_stage1.batch_size", "greater", "1"]),
        ("  mode: relabel", "  mode: false", ["verify.mode", "relabel", "found False"]),
        ("  use_labels: true", "  use_labels: 1", ["collection.use_labels", "boolean"]),
        ("  tau: 0.05", "  tau: 0", ["loss.tau", "greater than 0"]),
        ("  tau: 0.05", "  tau: .nan", ["loss.tau"]),
        ("  pairs: null", "  pairs: 11", ["mine_pairs", "11 is more than the 10 pairs"]),
        ("splits: [dev, test]", "splits: []", ["evaluate.splits"]),
        ("splits: [dev, test]", "splits: [dev, dev]", ["at most once"]),
        ("learning_rate: 1e-4", "learning_rate: 1e38", ["train_stage1.learning_rate"]),
        ("splits: [dev, test]", "splits: [train]", ["evaluate.splits", "'dev' or 'test'"]),
        ("  precision: float32", "  precision: bf16", ["compute", "native"]),
        ("seed: 0", "seed: -1", ["seed", "greater"]),
        ("seed: 0", "seed: null", ["seed", "integer"]),
        ("  backend: recorded", "  backend: gpt", ["teacher.backend", "'recorded' or 'openai'"]),
        ("  base_url: null", "  base_url: localhost", ["teacher.base_url", "found 'localhost'"]),
        ("  max_failed_share: 0.05", "  max_failed_share: 5", ["teacher.max_failed_share"]),
        ("  reasks: 1", "  reasks: -1", ["teacher.reasks", "greater than or equal to 0"]),
        ("    cot: {temperature: 0.7", "    cot: {temprature: 0.7",
         ["teacher.sampling.cot.temprature", "did you mean teacher.sampling.cot.temperature"]),
        ("max_tokens: 32}", "max_tokens: 0}", ["teacher.sampling.relabel.max_tokens", "found 0"]),
        ("  both_orders: false", "  both_orders: 0", ["mine_pairs.both_orders", "boolean"]),
        ("    mode: live", "    mode: bulk", ["runtime.teacher.mode", "'live' or 'batch'"]),
        ("    price_input: null", "    price_input: -1", ["runtime.teacher.price_input"]),
        ("    budget_usd: null", "    budgt_usd: 5",
         ["runtime.teacher.budgt_usd", "did you mean runtime.teacher.budget_usd"]),
        ("    labelled: 0.6\n    positive: 0.2\n    cot: 0.2", 
         "    labelled: 0\n    positive: 0\n    cot: 0", ["loss.weights", "above 0"]),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path, before, after, words):
    """Unknown names, wrong types and values out of range are refused, with name and file."""
    with pytest.raises(SyntrieverError) as error:
        load(tmp_path, changed(before, after))
    for word in [*words, "params.yaml, line"]:
        assert word in str(error.value)


def test_faults_have_the_right_line(tmp_path):
    """The line in the message is the param's own."""
    text = changed("  tau: 0.05", "  tau: -1")
    with pytest.raises(SyntrieverError, match=f"line {line_of(text, 'tau: -1')}: loss.tau"):
        load(tmp_path, text)


def test_all_faults_at_once(tmp_path):
    """Every fault is listed, not only the first."""
    text = changed("  tau: 0.05", "  tau: -1").replace("seed: 0", "seed: x")
    with pytest.raises(SyntrieverError) as error:
        load(tmp_path, text)
    assert "loss.tau" in str(error.value) and "seed" in str(error.value)


def test_a_stage_checks_what_it_does_not_read(tmp_path):
    """A fault anywhere in the file stops every stage."""
    with pytest.raises(SyntrieverError, match="bm25_b"):
        load(tmp_path, changed("  bm25_b: 0.4", "  bm25_b: 4"), params.VerifyView)


@pytest.mark.parametrize("number", ["2e-5", "2E-5", "2.0e-05", "0.00002", "1e-05"])
def test_numbers_as_dvc_reads_them(tmp_path, number):
    """Exponents without a point are numbers (YAML 1.2), as DVC reads and writes them."""
    found = load(tmp_path, changed("learning_rate: 1e-4", f"learning_rate: {number}"))
    assert found.train_stage1.learning_rate == float(number)


def test_null_means_no_limit(tmp_path):
    """`pairs: null` takes all pairs and `sha256: null` checks nothing."""
    assert load(tmp_path, TEXT).mine_pairs.pairs is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loss: [1\n", "not YAML"),
        ("", "must hold groups"),
        ("- 1\n", "must hold groups"),
        ("seed: 0\nseed: 1\n", "not YAML"),
    ],
)
def test_malformed_files(tmp_path, text, words):
    """What is not YAML, or no groups of params, is said in one message."""
    with pytest.raises(SyntrieverError, match=words):
        load(tmp_path, text)


def test_missing_file(tmp_path):
    """A stage started elsewhere says where to start it."""
    with pytest.raises(SyntrieverError, match="root"):
        params.load_all(tmp_path / "params.yaml")


def test_a_stage_sees_the_sampling_of_its_own_prompts(tmp_path):
    """A change of one prompt's sampling reruns only the stage that asks it."""
    text = changed("relabel: {temperature: 0.0, max", "relabel: {temperature: null, max")
    teacher = load(tmp_path, text, params.VerifyView).teacher
    assert [name for name, _ in teacher.sampling] == ["relabel"]
    assert teacher.sampling.relabel.temperature is None
    written = load(tmp_path, text, params.SynthesizeView).teacher
    assert [name for name, _ in written.sampling] == ["cot", "positive", "negative"]
    assert not hasattr(written, "reasks")


def test_views_hide_the_rest(tmp_path):
    """A stage sees only what its view declares, down to the leaf."""
    view = load(tmp_path, TEXT, params.TrainStage2View)
    assert not hasattr(view, "mine_pairs")
    assert not hasattr(params.load(params.TrainStage1View, tmp_path / "params.yaml").loss, "align")
    assert view.loss.tau == 0.05


def test_compute_survives_a_broken_file(tmp_path):
    """The process environment is fixed even where params.yaml is broken; the stage then says so."""
    file = tmp_path / "params.yaml"
    assert params.read_compute(file) == ("avx2", 2)
    file.write_text("compute: {instructions: native, threads: 3}\n")
    assert params.read_compute(file) == ("native", 3)
    file.write_text("compute: 7\n")
    assert params.read_compute(file) == ("avx2", 2)
