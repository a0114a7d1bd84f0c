"""The vLLM engine against a stand-in with the documented interface; the real one needs a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ift_lightning.errors import UserError
from ift_lightning.evaluation.generation import Decoding, FinishReason, Prompt
from ift_lightning.evaluation.vllm_engine import VllmEngine


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    made: dict[str, Any] = {}

    class LLM:
        def __init__(self, **keywords: Any) -> None:
            made["llm"] = keywords

        def generate(self, prompts: Any, parameters: Any, lora_request: Any = None) -> Any:
            made.update(prompts=prompts, parameters=parameters, lora_request=lora_request)
            return [
                SimpleNamespace(
                    outputs=[
                        SimpleNamespace(
                            text=f"answer {number}",
                            token_ids=[1] * (number + 1),
                            finish_reason="length" if number == 1 else "stop",
                        )
                    ]
                )
                for number in range(len(prompts))
            ]

    vllm = ModuleType("vllm")
    vllm.LLM = LLM  # type: ignore[attr-defined]
    vllm.SamplingParams = lambda **keywords: keywords  # type: ignore[attr-defined]
    request = ModuleType("vllm.lora.request")
    request.LoRARequest = lambda *values: values  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.lora", ModuleType("vllm.lora"))
    monkeypatch.setitem(sys.modules, "vllm.lora.request", request)
    return made


def test_prompts_and_decoding_are_handed_on(calls: dict[str, Any], tmp_path: Path) -> None:
    engine = VllmEngine("base", adapter=tmp_path, adapter_rank=16, options={"dtype": "bfloat16"})
    decoding = Decoding(
        9, do_sample=True, num_samples=2, temperature=0.5, top_p=0.9, stop=("x",),
        end_token_ids=(1, 2),
    )  # fmt: skip
    prompts = [Prompt("a", (3, 4)), Prompt("b", (5,))]
    found = list(engine.generate(prompts, decoding))
    assert [(c.id, c.sample, c.text) for c in found] == [
        ("a", 0, "answer 0"), ("a", 1, "answer 1"), ("b", 0, "answer 2"), ("b", 1, "answer 3"),
    ]  # fmt: skip
    assert [c.finish_reason for c in found][:2] == [FinishReason.STOP, FinishReason.LENGTH]
    assert [c.num_tokens for c in found] == [1, 2, 3, 4]
    assert calls["llm"] == {
        "model": "base", "dtype": "bfloat16", "enable_lora": True, "max_lora_rank": 16,
    }  # fmt: skip
    assert calls["lora_request"] == ("adapter", 1, str(tmp_path))
    assert calls["prompts"][2] == {"prompt_token_ids": [5]}
    shown = calls["parameters"][0]
    seeds = {parameters.pop("seed") for parameters in calls["parameters"]}
    assert len(seeds) == 4
    assert shown == {
        "n": 1, "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["x"],
        "stop_token_ids": [1, 2],
    }  # fmt: skip


def test_greedy_is_temperature_zero(calls: dict[str, Any]) -> None:
    list(VllmEngine("base").generate([Prompt("a", (3,))], Decoding(4)))
    assert calls["parameters"][0]["temperature"] == 0.0
    assert calls["lora_request"] is None


def test_missing_package_is_answered_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"ift-lightning\[vllm\].*generation\.engine=transformers"):
        VllmEngine("base")
