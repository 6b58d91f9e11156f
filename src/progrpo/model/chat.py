"""What a chat is rendered with beside its messages: a system prompt, and variables of the model's chat template."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator

from progrpo.types import Message

RESERVED = frozenset(
    {
        "messages",
        "conversation",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
    }
)
"""Arguments of `apply_chat_template` that follow from the prompt, and variables that are set by it."""


def _free(variables: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(RESERVED & variables.keys()):
        raise ValueError(
            f"{taken[0]} is no variable of a template: it follows from the prompt, or belongs into the tokenizer's files"
        )
    return variables


TemplateVariables = Annotated[dict[str, Any], AfterValidator(_free)]
"""Variables for a chat template, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    """How chat messages are rendered.

    Attributes:
        system_prompt: a system message before messages that begin with none of their own; None adds none, which leaves a
            template its default ("" is a system message without words).
        template_kwargs: variables of the template, for instance {"enable_thinking": False}.
    """

    system_prompt: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything that plain text would lack."""
        return self.system_prompt is not None or bool(self.template_kwargs)

    def messages(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages as the template gets them."""
        begins = messages[0].get("role") in ("system", "developer") if messages else False
        if self.system_prompt is None or begins:
            return tuple(messages)
        return ({"role": "system", "content": self.system_prompt}, *messages)


DEFAULT_CHAT = Chat()


def unknown_variables(tokenizer: Any, chat: Chat) -> list[str]:
    """One sentence for each variable that the chat template names nowhere: templates ignore such ones silently."""
    template = getattr(tokenizer, "chat_template", None) or ""
    text = "\n".join(map(str, template.values())) if isinstance(template, Mapping) else str(template)
    return [
        f"model.chat_template_kwargs: the chat template names no {name!r} and will ignore it"
        for name in chat.template_kwargs
        if not re.search(rf"\b{re.escape(name)}\b", text)
    ]
