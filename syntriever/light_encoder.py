"""The encoder of a model folder without sentence_transformers, whose import alone takes seconds.

Gives the vectors of `syntriever.encoder`. Only folders as `encoder.save` writes them for the usual
encoders are read here: a transformer, mean, cls or max pooling, unit length. For any other folder
the library itself is loaded: a slower start, never another vector.
"""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from syntriever import paths
from syntriever.errors import SyntrieverError

Encode = Callable[[list[str], Literal["query", "document"]], np.ndarray]
"""Texts and their kind -> (texts, dimensions) float32 of unit length."""

# What sentence_bert_config.json says of a plain text encoder.
_PLAIN_TRANSFORMER = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
_POOLINGS = ("mean", "cls", "max")


def load(folder: Path) -> Encode:
    """Load the encoder that a stage wrote to `folder`, on the CPU, in float32.

    Raises:
        SyntrieverError: nothing is there, or it can't be loaded.
    """
    check(folder)
    try:
        plain = _read_plain(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        plain = None  # a damaged folder: the library's loading says what is wrong
    return _load_by_library(folder) if plain is None else _load_light(*plain)


def check_vectors(system: str, vectors: np.ndarray, expected: int) -> None:
    """Refuse a system's vectors where they can't be its encoder's.

    Raises:
        SyntrieverError: they have other dimensions than the expected ones.
    """
    if vectors.shape[1] != expected:
        raise SyntrieverError(
            f"{paths.embeddings(system)}: the vectors have {vectors.shape[1]} dimensions, the "
            f"encoder's have {expected}. Run `dvc repro`, or `python -m stages.embed {system}`."
        )


def check(folder: Path) -> None:
    """Refuse a folder without an encoder, before anything slow is imported.

    Raises:
        SyntrieverError: nothing is there.
    """
    if not (folder / "modules.json").exists():
        raise SyntrieverError(f"{folder} holds no encoder. Run `dvc repro`, which makes it.")


def _read_plain(folder: Path) -> tuple[Path, str, dict[str, str]] | None:
    """Return the transformer's folder, the pooling and the prefixes of an encoder that is read
    here; None for what only the library knows."""
    modules = _read(folder / "modules.json")
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds != ["Transformer", "Pooling", "Normalize"]:
        return None
    transformer, pooling = (folder / module["path"] for module in modules[:2])
    asked = _read(pooling / "config.json")
    plain = (
        _read(transformer / "sentence_bert_config.json") == _PLAIN_TRANSFORMER
        and not (transformer / "adapter_config.json").exists()
        and not _read(transformer / "config.json").get("is_encoder_decoder")
        and asked["pooling_mode"] in _POOLINGS
        and asked["include_prompt"] is True
    )
    prefixes = _read(folder / "config_sentence_transformers.json")["prompts"]
    return (transformer, asked["pooling_mode"], prefixes) if plain else None


def _read(file: Path):
    return json.loads(file.read_text("utf-8"))


def _load_by_library(folder: Path) -> Encode:
    import torch

    from syntriever import encoder

    model = encoder.load(folder).eval()

    def encode(texts: list[str], kind: Literal["query", "document"]) -> np.ndarray:
        with torch.inference_mode():
            return _finite(encoder.forward(model, texts, kind, len(texts)).numpy())

    return encode


def _load_light(transformer: Path, pooling: str, prefixes: dict[str, str]) -> Encode:
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(transformer), local_files_only=True)
        model = AutoModel.from_pretrained(str(transformer), local_files_only=True).float().eval()
    except Exception as error:  # a dozen kinds, from JSON to safetensors; all mean the same here
        raise _unloadable(transformer, error) from None
    one, other = tokenizer(["bread", "stone"])["input_ids"]
    if one == other:
        raise _unloadable(transformer, ValueError("its tokenizer is missing, or damaged"))
    # As sentence_transformers cuts: the tokenizer's limit, or what the model has positions for.
    positions = getattr(model.config, "max_position_embeddings", -1)
    if positions != -1:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    accepted = inspect.signature(model.forward).parameters

    def encode(texts: list[str], kind: Literal["query", "document"]) -> np.ndarray:
        features = tokenizer(
            [prefixes[kind] + text for text in texts],
            padding=True,
            truncation="longest_first",
            return_tensors="pt",
        )
        features = {name: value for name, value in features.items() if name in accepted}
        with torch.inference_mode():
            tokens = model(**features).last_hidden_state
            vectors = _pool(tokens, features["attention_mask"], pooling)
            return _finite(torch.nn.functional.normalize(vectors, dim=1).numpy())

    return encode


def _pool(tokens, mask, pooling: str):
    """Pool (texts, tokens, dimensions) to (texts, dimensions) over the tokens that `mask` keeps."""
    if pooling == "cls":  # the first token that is no padding
        first = mask.int().argmax(dim=1)
        return tokens[range(len(tokens)), first]
    kept = mask.unsqueeze(-1)
    if pooling == "max":
        return tokens.masked_fill(kept == 0, float("-inf")).max(dim=1).values
    return (tokens * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)


def _finite(vectors: np.ndarray) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise SyntrieverError("The encoder gave vectors that are not finite; train it again.")
    return vectors


def _unloadable(folder: Path, error: Exception) -> SyntrieverError:
    reason = str(error).strip().splitlines() or ["no reason given"]
    return SyntrieverError(
        f"{folder} can't be loaded; run the stage that makes it again: "
        f"{type(error).__name__}: {reason[0]}"
    )
