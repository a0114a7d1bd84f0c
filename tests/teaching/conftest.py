"""A real, small teacher: the bundled model, taught to give one answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ANSWER = {"normal_think_step": "Add the two numbers.", "simple_think_step": "Add."}


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the bundled model after it has learnt ANSWER, with a chat template."""
    import torch

    from ift_lightning.config.entry import PACKAGE_DIR
    from ift_lightning.modeling.loading import load_base_model, load_tokenizer

    base = str(PACKAGE_DIR / "assets" / "tiny")
    tokenizer = load_tokenizer(base)
    turns = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    tokenizer.chat_template = "{{ bos_token }}" + turns + "### Response:\n"
    model = load_base_model(base).float().train()
    answer = tokenizer(json.dumps(ANSWER), add_special_tokens=False).input_ids
    answer = torch.tensor([*answer, tokenizer.eos_token_id])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    torch.manual_seed(0)
    for step in range(60):
        question = [{"role": "user", "content": f'"instruction": "task {step}."' * (step % 5 + 1)}]
        text = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        prompt = torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)
        ids = torch.cat([prompt, answer])[None]
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("teacher")
    model.config.use_cache = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
