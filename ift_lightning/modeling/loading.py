"""Loads a tokenizer and a base model, and says in the user's words why it cannot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from ift_lightning.errors import UserError
from ift_lightning.modeling.notices import progress_bar_for

_UNREADABLE = (OSError, ValueError, ImportError, SafetensorError, UnpicklingError, EOFError)
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


def is_local(path: str) -> bool:
    """Whether ``path`` is meant as a folder rather than as a hub name such as ``org/name``."""
    looks_like_path = path.startswith(("/", "./", "../", "~")) or path.count("/") != 1
    return looks_like_path or Path(path).expanduser().exists()


def check_model_folder(
    path: str, tokenizer_path: str | None = None, *, need_weights: bool = True
) -> None:
    """Make sure that a local folder holds a model and a tokenizer, before anything is loaded.

    Args:
        path: Folder or hub name; a hub name is not checked.
        tokenizer_path: Folder of the tokenizer, where it is not the model's.
        need_weights: Whether the folder has to hold weights, too.

    Raises:
        UserError: What is missing, where, and what to do.
    """
    if not is_local(path):
        return
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"model.path={path}: there is no such folder. Give the folder of a Hugging Face model, "
            "or a hub name such as Qwen/Qwen2.5-Coder-0.5B"
        )
    if not (folder / "config.json").is_file():
        raise UserError(
            f"model.path={path}: no config.json in it, so it is no Hugging Face model folder; it "
            f"holds {_listing(folder)}"
        )
    if need_weights and not any(next(folder.glob(pattern), None) for pattern in _WEIGHT_FILES):
        raise UserError(
            f"model.path={path}: no weights in it (looked for {', '.join(_WEIGHT_FILES)}); it "
            f"holds {_listing(folder)}. A download may have stopped halfway"
        )
    tokenizer_folder = Path(tokenizer_path).expanduser() if tokenizer_path else folder
    if tokenizer_path and not is_local(tokenizer_path):
        return
    if not any((tokenizer_folder / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(
            f"no tokenizer in {tokenizer_folder} (looked for {', '.join(_TOKENIZER_FILES)}); point "
            "model.tokenizer at a folder that has one"
        )


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "nothing"


def load_tokenizer(
    path: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    add_tokens: Sequence[str] = (),
) -> Any:
    """Load a tokenizer; one without a padding token pads with EOS.

    Padding is masked out and weighs nothing here, and the end token's weight comes from its role,
    so that padding with EOS does not teach the model to run on.

    Args:
        path: Folder or hub name.
        revision: Commit, tag or branch on the hub.
        trust_remote_code: Run code that the repository brings along.
        add_tokens: New special tokens.

    Raises:
        UserError: There is no tokenizer to be had.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise _cannot_load("tokenizer", path, revision, error) from error
    if add_tokens:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": list(add_tokens)}, replace_extra_special_tokens=False
        )
    if tokenizer.pad_token_id is None:
        replacement = tokenizer.eos_token or tokenizer.unk_token
        if replacement is None:
            raise UserError(
                f"the tokenizer of '{path}' has neither a padding nor an EOS token; "
                "set one in its tokenizer_config.json"
            )
        tokenizer.pad_token = replacement
    return tokenizer


def load_base_model(
    path: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    quantization: Mapping[str, Any] | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
    device: torch.device | None = None,
    vocabulary_size: int | None = None,
) -> Any:
    """Load a causal language model.

    Args:
        path: Folder or hub name.
        revision: Commit, tag or branch on the hub.
        dtype: Of the weights; of the arithmetic, where weights are quantized.
        quantization: Keywords of ``BitsAndBytesConfig``; None for plain weights.
        attention: ``attn_implementation``; None for the library's own choice.
        trust_remote_code: Run code that the repository brings along.
        device: Where quantized weights are made; plain weights are moved by the trainer.
        vocabulary_size: Tokens that the tokenizer knows. Embeddings grow where there are fewer.

    Raises:
        UserError: There is no model to be had, or it is no causal language model.
    """
    options: dict[str, Any] = {"dtype": dtype}
    if attention is not None:
        options["attn_implementation"] = attention
    if quantization is not None:
        settings = dict(quantization)
        if settings.get("load_in_4bit"):
            settings.setdefault("bnb_4bit_compute_dtype", dtype)
        options["quantization_config"] = BitsAndBytesConfig(**settings)
        options["device_map"] = {"": device or torch.device("cpu")}
    try:
        with progress_bar_for(_num_weight_bytes(path)):
            model, found = AutoModelForCausalLM.from_pretrained(
                path,
                revision=revision,
                trust_remote_code=trust_remote_code,
                # Both are refused below, in one message that names the tensors.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **options,
            )
    except _UNREADABLE as error:
        raise _cannot_load("model", path, revision, error) from error
    _refuse_random_weights(found, path)
    grow_vocabulary(model, vocabulary_size)
    model.config.use_cache = False  # keys and values are of no use in training
    if options.get("quantization_config") is not None:
        _keep_quantized_weights_as_they_are(model)
    return model


def grow_vocabulary(model: Any, vocabulary_size: int | None) -> None:
    """Add rows to a model's embeddings where it has fewer than ``vocabulary_size``."""
    if (
        vocabulary_size is not None
        and vocabulary_size > model.get_input_embeddings().num_embeddings
    ):
        model.resize_token_embeddings(vocabulary_size)


def _refuse_random_weights(found: Mapping[str, Any], path: str) -> None:
    """Refuse weights that transformers fills with random numbers, for want of better ones."""
    missing = sorted(found["missing_keys"])
    mismatched = sorted(str(item[0]) for item in found["mismatched_keys"])
    names = mismatched or missing
    if names:
        what = "have another shape than config.json says" if mismatched else "are missing"
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise UserError(
            f"cannot load the model '{path}': {len(names)} of its tensors {what} ({shown}), and "
            "would be random numbers. Files of two models may be mixed, or a download incomplete"
        )


def _keep_quantized_weights_as_they_are(model: Any) -> None:
    """Stop bitsandbytes from repacking 4-bit weights in place at the first evaluation on a CPU.

    On a CPU with AVX512-BF16 it does so for speed, rounding their scales to bf16 for good: a
    validation would change the model that training then goes on with. Matrices that do not fit
    its blocks make it fail outright.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _weight_files(path: str) -> list[Path]:
    """Return the weight files of a local folder."""
    folder = Path(path).expanduser()
    return [file for pattern in _WEIGHT_FILES for file in folder.glob(pattern)]


def _num_weight_bytes(path: str) -> int | None:
    """Return the size of a folder's weights; None for a hub name."""
    return sum(file.stat().st_size for file in _weight_files(path)) if is_local(path) else None


def _cannot_load(what: str, path: str, revision: str | None, error: BaseException) -> UserError:
    where = f"'{path}'" + (f" at revision {revision}" if revision else "")
    reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
    advice = (
        "Look into the folder"
        if is_local(path)
        else "Without a network, download it elsewhere and use model=local model.path=FOLDER"
    )
    return UserError(f"cannot load the {what} {where}: {reason}. {advice}")


def load_config(path: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Load a model's configuration without its weights.

    Raises:
        UserError: There is none to be had.
    """
    try:
        return AutoConfig.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise _cannot_load("configuration", path, revision, error) from error


def _files_of_weights(path: str) -> list[Path]:
    return sorted(
        file
        for pattern in (*_WEIGHT_FILES, "config.json")
        for file in Path(path).expanduser().glob(pattern)
    )


def weight_file_stamps(path: str) -> tuple[tuple[str, int, int], ...]:
    """Return names, sizes and times of a folder's weight files; nothing for a hub name."""
    files = _files_of_weights(path) if is_local(path) else []
    return tuple((str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files)


def weights_fingerprint(path: str, revision: str | None, cache_folder: Path) -> str:
    """Return what identifies the base weights: the hub commit, or a hash of the folder's files.

    A folder's hash is remembered under names, sizes and times of its files, since reading tens of
    gigabytes for every run would cost minutes.

    Args:
        path: Folder or hub name.
        revision: Commit on the hub.
        cache_folder: Where hashes are remembered.
    """
    if not is_local(path):
        return f"hub:{path}@{revision or 'main'}"
    stats = weight_file_stamps(path)
    files = _files_of_weights(path)
    stamp = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]
    remembered = cache_folder / "weights" / stamp
    if remembered.is_file():
        return remembered.read_text(encoding="ascii")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    fingerprint = f"sha256:{digest.hexdigest()[:16]}"
    remembered.parent.mkdir(parents=True, exist_ok=True)
    temporary = remembered.with_suffix(".part")
    temporary.write_text(fingerprint, encoding="ascii")
    temporary.replace(remembered)
    return fingerprint


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return 16 hexadecimal digits that change whenever the tokenizer gives other ids or texts."""
    digest = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    digest.update((backend.to_str() if backend is not None else repr(tokenizer)).encode())
    digest.update(str(tokenizer.chat_template or "").encode())
    special = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    digest.update(json.dumps(special).encode())
    return digest.hexdigest()[:16]
