"""Generates with vLLM, where it is installed: ``generation.engine=vllm``.

Written against vLLM's documented offline interface (https://docs.vllm.ai, ``LLM.generate`` with
token ids, ``SamplingParams`` and ``LoRARequest``). It needs a GPU and is not part of the tests'
environment, so the tests drive it through a stand-in of that interface.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ift_lightning.errors import UserError
from ift_lightning.evaluation.generation import Completion, Decoding, FinishReason, Prompt


def _import_vllm() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise UserError(
            f"generation.engine=vllm: the package vllm cannot be imported here ({error}). Install "
            "it with: pip install 'ift-lightning[vllm]' (it needs a GPU), or use "
            "generation.engine=transformers"
        ) from error
    return vllm


class VllmEngine:
    """Generates with vLLM; samples follow vLLM's own generator, seeded per sample.

    A sample depends on the seed, its prompt's id and its number, as with the other engine. The two
    engines draw differently, and low precision on a GPU may turn near ties: compare arms that were
    generated with the same one.

    Args:
        model: Folder or hub name of the base model.
        adapter: Folder of a LoRA adapter; None for the base model.
        options: Further keywords of ``vllm.LLM``.

    Raises:
        UserError: vLLM is not installed.
    """

    name = "vllm"

    def __init__(
        self,
        model: str,
        *,
        adapter: Path | None = None,
        adapter_rank: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        vllm = _import_vllm()
        self._vllm = vllm
        keywords: dict[str, Any] = {"model": model, **(options or {})}
        self._request = None
        if adapter is not None:
            from vllm.lora.request import LoRARequest

            keywords |= {"enable_lora": True, "max_lora_rank": max(8, adapter_rank or 8)}
            self._request = LoRARequest("adapter", 1, str(adapter))
        self._llm = vllm.LLM(**keywords)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Completion]:
        """Yield the completions of all prompts."""
        jobs = [(prompt, sample) for prompt in prompts for sample in range(decoding.num_samples)]
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(prompt.input_ids)} for prompt, _ in jobs],
            [self._parameters(decoding, prompt.id, sample) for prompt, sample in jobs],
            lora_request=self._request,
        )
        for (prompt, sample), output in zip(jobs, outputs, strict=True):
            answer = output.outputs[0]
            stopped = answer.finish_reason == "stop"
            yield Completion(
                prompt.id,
                sample,
                answer.text,
                FinishReason.STOP if stopped else FinishReason.LENGTH,
                len(answer.token_ids),
            )

    def _parameters(self, decoding: Decoding, prompt_id: str, sample: int) -> Any:
        identity = f"{decoding.seed}\n{sample}\n{prompt_id}".encode("utf-8", "surrogatepass")
        seed = int.from_bytes(hashlib.sha256(identity).digest()[:4], "big")
        return self._vllm.SamplingParams(
            n=1,
            max_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature if decoding.do_sample else 0.0,
            top_p=decoding.top_p if decoding.do_sample else 1.0,
            seed=seed,
            stop=list(decoding.stop),
            stop_token_ids=list(decoding.end_token_ids),
        )
