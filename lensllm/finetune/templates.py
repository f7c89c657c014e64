"""Chat templates: programs that come with a tokenizer, rendered within limits.

A template is written in Jinja and can loop without end, fill the memory, or give another prompt
every day. It is rendered in a process of its own, with a limit of time and memory, a fixed date,
and without random functions; the outcome is cached under the template's hash.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

SECONDS = 5.0  # of processor time for rendering
MEMORY = 1 << 30  # bytes that rendering may take
MAX_TEMPLATE = 1_000_000  # characters
MAX_PROMPT = 100_000  # characters
DATE = "2024-07-26"  # what templates are told that today is; any day will do, as long as it stays

_WAY = "give the prompt as a text with {input}, or fix the template"
_RENDERED: dict[str, str] = {}


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """The text that a tokenizer's chat template makes of a conversation.

    Args:
        tokenizer: A tokenizer with a chat template.
        turns: Mappings with `role` and `content`.
        add_generation_prompt: Whether the text ends where the answer begins.

    Returns:
        The text. Templates that ask for the date are told `DATE`.

    Raises:
        ValueError: The template does not end in time, takes too much memory, is random, or fails.
    """
    template = tokenizer.get_chat_template()
    name = str(tokenizer.name_or_path)
    if len(template) > MAX_TEMPLATE:
        raise ValueError(
            f"Expected a chat template of at most {MAX_TEMPLATE} characters with {name}, got "
            f"{len(template)}: {_WAY}"
        )
    request = json.dumps(
        {
            "template": template,
            "turns": [dict(turn) for turn in turns],
            "add_generation_prompt": add_generation_prompt,
            "tokens": tokenizer.special_tokens_map,
            "date": DATE,
            "limits": [SECONDS, MEMORY, MAX_PROMPT],
            "path": [folder for folder in sys.path if folder],
        },
        default=str,
    )
    key = hashlib.sha256(request.encode()).hexdigest()
    if key not in _RENDERED:
        _RENDERED[key] = _render(request, name)
        if "strftime_now" in template:
            logger.info("The chat template of %s asks for the date; it is told %s", name, DATE)
    return _RENDERED[key]


def chat_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, str]:
    """The text that a chat template writes around one turn of a user and the answer to it.

    It is read off a conversation that has its answer, as models are trained on: a template that
    opens a block of thoughts where an answer is to be generated closes or leaves it out there.

    Args:
        tokenizer: A tokenizer with a chat template.

    Returns:
        The texts before the input, between input and answer, and after the answer.

    Raises:
        ValueError: There is no template, it cannot be rendered (see `render_chat`), or it does not
            write input and answer as they are, once each and in this order.
    """
    name = tokenizer.name_or_path
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            f"Expected a tokenizer with a chat template for training.prompt=chat, {name} has none: "
            "give the prompt as a text with {input}"
        )
    turns = [
        {"role": "user", "content": "{input}"},
        {"role": "assistant", "content": "{target}"},
    ]
    text = render_chat(tokenizer, turns, add_generation_prompt=False)
    before, found, rest = text.partition("{input}")
    between, answered, end = rest.partition("{target}")
    if not (found and answered) or "{input}" in between + end or "{target}" in before + end:
        raise ValueError(
            f"Expected a chat template that writes a user's turn and its answer once each, in this "
            f"order, with {name}, got {text[:300]!r}: {_WAY}"
        )
    return before, between, end


def chat_pieces(tokenizer: PreTrainedTokenizerBase, roles: Sequence[str]) -> list[str]:
    """The texts that a chat template writes around the turns of a conversation.

    Args:
        tokenizer: A tokenizer with a chat template.
        roles: Who speaks, turn by turn, before the answer.

    Returns:
        The text before the first turn, those between turns, and the one between the last turn and
        the answer: one more than there are turns.

    Raises:
        ValueError: The template cannot be rendered (see `render_chat`), does not take these roles,
            or does not write all turns once each and in their order.
    """
    marks = [f"{{turn{i}}}" for i in range(len(roles))] + ["{target}"]
    speakers = [*roles, "assistant"]
    turns = [{"role": who, "content": mark} for who, mark in zip(speakers, marks, strict=True)]
    text = rest = render_chat(tokenizer, turns, add_generation_prompt=False)
    pieces = []
    for mark in marks:
        piece, found, rest = rest.partition(mark)
        pieces.append(piece)
        if not found or text.count(mark) > 1:
            raise ValueError(
                f"Expected a chat template that writes the turns of {', '.join(speakers)} once "
                f"each, in this order, with {tokenizer.name_or_path}, got {text[:300]!r}: {_WAY}"
            )
    return pieces


def _render(request: str, name: str) -> str:
    """Render in a process of its own, which needs neither torch nor transformers."""
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _RENDERER],
            input=request.encode(),
            capture_output=True,
            timeout=60 + 4 * SECONDS,  # the processor's seconds are what counts on a busy machine
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"Expected a chat template that ends within {SECONDS:g} s with {name}, got none by "
            f"then: {_WAY}"
        ) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"error": f"it did not end within {SECONDS:g} s and {MEMORY / 2**30:g} GiB"}
    if "error" in answer:
        raise ValueError(
            f"Expected a chat template that renders the same text every time, within limits, with "
            f"{name}, got: {answer['error'][:300]}: {_WAY}"
        )
    return str(answer["text"])


# What transformers' own renderer offers to templates, without what depends on the time.
_RENDERER = r"""
import datetime, json, sys
request = json.load(sys.stdin)
sys.path[:] = request["path"]
seconds, memory, longest = request["limits"]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass  # no such limits on this system: the caller's clock is left
from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()

def refuse(message):
    raise TemplateError(message)

def random(*arguments, **options):
    raise TemplateError("it is random")

def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)

now = datetime.datetime.fromisoformat(request["date"])
environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
)
environment.filters.update(tojson=tojson, random=random)
environment.globals.update(
    raise_exception=refuse, strftime_now=now.strftime, lipsum=random,
)
try:
    parts, length = [], 0
    template = environment.from_string(request["template"])
    for part in template.generate(
        messages=request["turns"], tools=None, documents=None,
        add_generation_prompt=request["add_generation_prompt"], **request["tokens"],
    ):
        length += len(part)
        if length > longest:
            raise TemplateError(f"more than {longest} characters")
        parts.append(part)
    text = "".join(parts)
    if " at 0x" in text:
        raise TemplateError("it prints an address in memory")
    answer = {"text": text}
except MemoryError:
    answer = {"error": "it takes too much memory"}
except RecursionError:
    answer = {"error": "it calls itself without end"}
except Exception as error:
    answer = {"error": f"{type(error).__name__}: {error}"[:500]}
json.dump(answer, sys.stdout)
"""
