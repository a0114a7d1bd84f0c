"""A teacher in this process: a Hugging Face folder through ``transformers``."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

from ift_lightning.errors import UserError
from ift_lightning.modeling.loading import check_model_folder, load_base_model, load_tokenizer
from ift_lightning.teaching.exchange import (
    RequestFailedError,
    StoppedError,
    TeacherAnswer,
    TeacherRequest,
)
from ift_lightning.types import json_fingerprint


class LocalTeacher:
    """Generates answers batch by batch, through the tokenizer's own chat template.

    Args:
        path: Folder or hub name.
        revision: Commit, tag or branch on the hub.
        dtype: torch dtype of the weights; "auto" is bfloat16 on a GPU and float32 elsewhere.
        batch_size: Answers generated at the same time.
        max_tokens: Tokens of an answer, at most.
        temperature: Of sampling; None or 0 for the likeliest token each time.
        top_p: Of sampling.
        trust_remote_code: Run code that the repository brings along.

    Raises:
        UserError: The folder holds no model, or its tokenizer has no chat template.
    """

    num_workers = 1

    def __init__(
        self,
        path: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        batch_size: int = 8,
        max_tokens: int = 2048,
        temperature: float | None = None,
        top_p: float | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"teacher.batch_size={batch_size} has to be at least 1")
        self.batch_size = batch_size
        check_model_folder(path)
        self.tokenizer = load_tokenizer(
            path, revision=revision, trust_remote_code=trust_remote_code
        )
        if not self.tokenizer.chat_template:
            raise UserError(
                f"teacher.model={path}: its tokenizer has no chat template, so it is no model that "
                "follows instructions; use an instruction-tuned one"
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        name = dtype if dtype != "auto" else ("bfloat16" if device.type == "cuda" else "float32")
        weights_dtype = getattr(torch, name, None)
        if not isinstance(weights_dtype, torch.dtype):
            raise UserError(f"teacher.dtype={dtype} is no torch dtype; use auto, or bfloat16")
        self.tokenizer.padding_side = "left"  # a batch's answers begin at the same place
        self.model: Any = load_base_model(
            path, revision=revision, dtype=weights_dtype, trust_remote_code=trust_remote_code
        )
        self.model.config.use_cache = True
        self.model.to(device).eval()
        self._sampling: dict[str, Any] = {
            "do_sample": bool(temperature),
            "max_new_tokens": max_tokens,
        }
        if temperature:
            self._sampling |= {"temperature": temperature, "top_p": top_p or 1.0}
        self.key = ["local", path, revision, name, self._sampling]
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Begin no further batch."""
        self._stopped.set()

    def answer(
        self, requests: Sequence[TeacherRequest]
    ) -> list[TeacherAnswer | RequestFailedError]:
        """Return an answer to each request, or why there is none."""
        if self._stopped.is_set():
            raise StoppedError
        texts = [
            self.tokenizer.apply_chat_template(
                request.chat(), tokenize=False, add_generation_prompt=True
            )
            for request in requests
        ]
        results: list[Any] = [None] * len(requests)
        room = int(getattr(self.model.config, "max_position_embeddings", 0) or 0)
        lengths = [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False).input_ids]
        for index, length in enumerate(lengths):
            if room and length >= room:
                results[index] = RequestFailedError(
                    f"the request has {length} tokens and the teacher reads {room}"
                )
        fitting = [index for index, result in enumerate(results) if result is None]
        if fitting:
            answers = self._generate([texts[index] for index in fitting], room, requests[0])
            for index, answer in zip(fitting, answers, strict=True):
                results[index] = answer
        return results

    @torch.inference_mode()
    def _generate(self, texts: list[str], room: int, first: TeacherRequest) -> list[TeacherAnswer]:
        encoded = self.tokenizer(
            texts, add_special_tokens=False, padding=True, return_tensors="pt"
        ).to(self.model.device)
        length = encoded.input_ids.shape[1]
        sampling = dict(self._sampling)
        if room:
            sampling["max_new_tokens"] = min(sampling["max_new_tokens"], room - length)
        # The same rows get the same answers in a run that is started anew.
        torch.manual_seed(int(json_fingerprint([first.row_id, first.attempt]), 16) % 2**63)
        ids = self.model.generate(
            input_ids=encoded.input_ids,
            attention_mask=encoded.attention_mask,
            pad_token_id=self.tokenizer.pad_token_id,
            **sampling,
        )[:, length:]
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends]) | {self.tokenizer.eos_token_id}
        prompt_lengths = encoded.attention_mask.sum(1).tolist()
        return [
            self._to_answer(row, ends, num_prompt_tokens)
            for row, num_prompt_tokens in zip(ids.tolist(), prompt_lengths, strict=True)
        ]

    def _to_answer(self, ids: list[int], ends: set[Any], num_prompt_tokens: int) -> TeacherAnswer:
        stop = next((place for place, token in enumerate(ids) if token in ends), None)
        kept = ids if stop is None else ids[:stop]
        return TeacherAnswer(
            self.tokenizer.decode(kept, skip_special_tokens=True),
            "length" if stop is None else "stop",
            num_prompt_tokens=num_prompt_tokens,
            num_completion_tokens=len(kept) + (stop is not None),
        )
