"""Config of ``prepare task=generate_cot``: the teacher, its prompts, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class TeacherKind(Enum):
    """How a teacher is reached."""

    openai = "openai"  # any server with an OpenAI-compatible chat endpoint
    local = "local"  # a Hugging Face folder, in this process


class CotSource(Enum):
    """What reasoning is made from."""

    complex = "complex"  # the row's own complex reasoning: normal and simple are written
    row = "row"  # the bare row: all three levels are written


class CotRowForm(Enum):
    """The form of the rows that are written."""

    record = "record"  # our own: {"reasoning": {"simple": …, "normal": …, "complex": …}}
    think_steps = "think_steps"  # simple_think_step, normal_think_step, complex_think_step


@dataclass
class TeacherConfig:
    """A model that writes reasoning."""

    name: str = MISSING
    kind: TeacherKind = MISSING
    model: str = ""  # its name on the server, or a folder
    max_tokens: int = 2048  # of an answer
    temperature: float | None = 0.7  # at 0, an answer that was refused comes again
    top_p: float | None = None
    # kind=openai
    base_url: str | None = None  # up to "/v1"; null is OpenAI's own server
    api_key_env: str = "OPENAI_API_KEY"  # name of the environment variable that holds the key
    max_tokens_field: str = "max_tokens"  # "max_completion_tokens" for OpenAI's newer models
    options: dict[str, Any] = field(default_factory=dict)  # further fields of the request's body
    concurrency: int = 8  # requests in flight
    timeout_seconds: float = 300.0  # that the server may be silent
    max_retries: int = 6  # of a request that got no answer: 429, 5xx, timeouts, connections
    retry_seconds: float = 1.0  # before the first retry; doubles with each one
    max_retry_seconds: float = 60.0
    # For the report; null where it is not known.
    price_per_million_prompt_tokens: float | None = None
    price_per_million_completion_tokens: float | None = None
    currency: str = "USD"
    # kind=local
    revision: str | None = None
    dtype: str = "auto"  # torch dtype; auto: bfloat16 on a GPU, float32 elsewhere
    batch_size: int = 8  # answers generated at the same time
    trust_remote_code: bool = False


@dataclass
class CotPromptsConfig:
    """What the teacher is told; Jinja, with the variables of teaching.prompts.CotPrompts."""

    name: str = MISSING
    system: str = ""
    from_complex: str = MISSING
    from_row: str = MISSING


@dataclass
class CotConfig:
    """What is asked for, and what is accepted."""

    source: CotSource = CotSource.complex
    max_attempts: int = 3  # times that a row is asked about while the answers are bad
    check_tests: bool = True  # where a row has tests, ask for code, too, and run them on it
    form: CotRowForm = CotRowForm.record
