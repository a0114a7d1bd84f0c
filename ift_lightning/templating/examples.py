"""Records to token ids with loss weights, and the prompts that generation starts from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ift_lightning.errors import BadRowError, UserError
from ift_lightning.templating.template import Template
from ift_lightning.templating.tokenization import SegmentTokenizer, SegmentTokens
from ift_lightning.templating.weights import LossWeights
from ift_lightning.types import InstructionRecord, Role, Segment, TokenizedExample


class ExampleBuilder:
    """Makes training examples and generation prompts of records, by one code path.

    Args:
        template: How a record is written down.
        tokenizer: A fast Hugging Face tokenizer.
        weights: Loss weights; None for the defaults (the prompt masked, the rest 1).
        max_seq_length: Tokens that an example may have.
        cut_prompt: Cut a long row's prompt from the left, rather than refuse the row. The answer
            is never cut.
        reasoning_level: Level of the written reasoning before the answer; None for none.
        last_turn_only: Train on the last assistant turn of a chat only.
        allow_special_tokens: Accept rows whose text spells out a special token, such as ``</s>``.
    """

    def __init__(
        self,
        template: Template,
        tokenizer: Any,
        *,
        weights: LossWeights | None = None,
        max_seq_length: int = 512,
        cut_prompt: bool = False,
        reasoning_level: str | None = None,
        last_turn_only: bool = False,
        allow_special_tokens: bool = False,
    ) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self.weights = weights or LossWeights()
        self.max_seq_length = max_seq_length
        self.cut_prompt = cut_prompt
        self.reasoning_level = reasoning_level
        self.last_turn_only = last_turn_only
        self.allow_special_tokens = allow_special_tokens
        self._segment_tokenizer = SegmentTokenizer(
            tokenizer, add_bos=template.add_bos and not template.native
        )
        if not template.native and "eos_token" in template.end and not tokenizer.eos_token:
            raise UserError(
                f"template '{template.name}' ends an answer with the EOS token, and the tokenizer "
                f"of '{tokenizer.name_or_path}' has none; set template.end to a text that it knows"
            )

    def build(self, records: Sequence[InstructionRecord]) -> list[TokenizedExample | BadRowError]:
        """Return an example for each record, or why there is none; in the records' order."""
        results: list[Any] = [None] * len(records)
        segments, places = [], []
        for index, record in enumerate(records):
            try:
                segments.append(self._segments(record))
                places.append(index)
            except BadRowError as error:
                results[index] = error
        encoded = self._segment_tokenizer.encode(
            segments, with_offsets=bool(self.weights.key_tokens)
        )
        for index, tokens in zip(places, encoded, strict=True):
            try:
                results[index] = self._example(records[index], tokens)
            except BadRowError as error:
                results[index] = error
        return results

    def prompt_ids(self, record: InstructionRecord) -> list[int]:
        """Return the ids that a generation for ``record`` starts from.

        They are the first ``num_prompt_tokens`` ids of the training example, before any cutting.
        """
        tokens = self._segment_tokenizer.encode([self._prompt_segments(record)])[0]
        return [*self._leading_ids(tokens), *(i for part in tokens for i in part.input_ids)]

    def prompt_text(self, record: InstructionRecord) -> str:
        """Return the text of :meth:`prompt_ids`, without a BOS that the tokenizer puts there."""
        return "".join(segment.text for segment in self._prompt_segments(record))

    def _prompt_segments(self, record: InstructionRecord) -> list[Segment]:
        self._check_special_tokens(record, with_answers=False)
        return self.template.segments(
            record, self.tokenizer, last_turn_only=self.last_turn_only, for_generation=True
        )

    def _leading_ids(self, tokens: Sequence[SegmentTokens]) -> list[int]:
        """Return the BOS to put in front of a text, unless the template wrote one itself."""
        bos_ids = self._segment_tokenizer.bos_ids
        first = tokens[0].input_ids[:1] if tokens else []
        return [] if first == bos_ids else list(bos_ids)

    def _segments(self, record: InstructionRecord) -> Any:
        self._check_special_tokens(record, with_answers=True)
        reasoning = ""
        if self.reasoning_level is not None:
            reasoning = record.reasoning.get(self.reasoning_level, "")
            if not reasoning.strip():
                raise BadRowError(
                    f"no reasoning at level '{self.reasoning_level}'; the row has "
                    f"{sorted(record.reasoning) or 'none'}. Use cot_level=none, or rows "
                    "that have it",
                    field=f"reasoning.{self.reasoning_level}",
                )
        return self.template.segments(
            record,
            self.tokenizer,
            reasoning=reasoning,
            last_turn_only=self.last_turn_only,
        )

    def _check_special_tokens(self, record: InstructionRecord, *, with_answers: bool) -> None:
        if self.allow_special_tokens:
            return
        fields = {"instruction": record.instruction, "input": record.input}
        if with_answers:
            fields["output"] = record.output
            if self.reasoning_level is not None:
                level = self.reasoning_level
                fields[f"reasoning.{level}"] = record.reasoning.get(level, "")
        for index, message in enumerate(record.messages):
            if with_answers or index < len(record.messages) - 1:
                fields[f"messages[{index}].content"] = message.content
        for name, text in fields.items():
            token = self._segment_tokenizer.special_token_in(text)
            if token:
                raise BadRowError(
                    f"the text contains {token!r}, which this tokenizer reads as a special token; "
                    "leave the row out, or set data.allow_special_tokens=true if it is meant so",
                    field=name,
                )

    def _example(self, record: InstructionRecord, tokens: list[SegmentTokens]) -> TokenizedExample:
        input_ids = self._leading_ids(tokens)
        weights = [0.0] * len(input_ids)
        roles = [Role.PROMPT] * len(input_ids)
        generation_length = len(input_ids)
        first_trained: int | None = None
        end_is_supervised = False
        for index, part in enumerate(tokens):
            role = part.segment.role
            if role is not Role.PROMPT and first_trained is None:
                first_trained = len(input_ids)
            self._check_spelling(part, is_first=index == 0)
            part_weights = self.weights.of(part)
            input_ids += part.input_ids
            weights += part_weights
            roles += [role] * len(part_weights)
            if role is Role.PROMPT:
                generation_length = len(input_ids)
            elif role is Role.END:
                end_is_supervised = any(part_weights)
            elif role is Role.ANSWER:
                end_is_supervised = False
        if generation_length == 0:
            raise BadRowError("the prompt has no tokens, so nothing would predict the answer")
        # BOS stays, whether the tokenizer or the template put it there.
        keep = 1 if input_ids[0] == self.tokenizer.bos_token_id else 0
        if first_trained is None:
            first_trained = len(input_ids)
        num_cut = self._tokens_to_cut(len(input_ids), keep, first_trained)
        input_ids[keep : keep + num_cut] = []
        weights[keep : keep + num_cut] = []
        roles[keep : keep + num_cut] = []
        # Nothing predicts the first token of a text.
        weights[0] = 0.0
        if not any(weights):
            raise BadRowError("nothing of the row is trained on: every token weighs 0")
        return TokenizedExample(
            id=record.id,
            input_ids=input_ids,
            loss_weights=weights,
            num_prompt_tokens=generation_length - num_cut,
            end_is_supervised=end_is_supervised,
            num_cut_tokens=num_cut,
            target_tokens_by_role=Counter(
                role.value for role, weight in zip(roles, weights, strict=True) if weight > 0
            ),
        )

    def _tokens_to_cut(self, length: int, keep: int, first_trained: int) -> int:
        """Return how many prompt tokens after BOS have to go; refuse what cannot be made to fit.

        Args:
            length: Tokens of the whole text.
            keep: Tokens at its beginning that stay: 1 with BOS, 0 without.
            first_trained: Position of the first token that does not belong to the prompt.
        """
        excess = length - self.max_seq_length
        if excess <= 0:
            return 0
        if not self.cut_prompt:
            raise BadRowError(
                f"the row has {length} tokens and data.max_seq_length is {self.max_seq_length}; "
                "raise it, cut prompts with data.overflow=cut_prompt, or leave such rows out with "
                "data.bad_rows=skip"
            )
        # One prompt token has to stay: the first answer token is predicted from it.
        if excess > first_trained - keep - 1:
            raise BadRowError(
                f"the row has {length - first_trained} tokens from its first answer on and "
                f"data.max_seq_length is {self.max_seq_length}; an answer is never cut, and needs "
                "a prompt token before it, so raise data.max_seq_length"
            )
        return excess

    def _check_spelling(self, part: SegmentTokens, *, is_first: bool) -> None:
        """Make sure that a supervised span decodes to the text that it is meant to teach."""
        role, text = part.segment.role, part.segment.text
        if self.weights.roles[role] == 0:
            return
        decoded = self._segment_tokenizer.spelling(part, is_first=is_first)
        if decoded != text:
            raise BadRowError(
                f"the {role} span does not decode to its own text: {decoded[:60]!r} instead of "
                f"{text[:60]!r}. This tokenizer loses text, so the mask would teach something else",
                field="output",
            )
