"""Chat templates: the text that transformers makes of them, and limits that hold."""

import copy
import threading
import time

import pytest

from lensllm.finetune import templates
from lensllm.finetune.templates import DATE, render_chat

TURNS = [{"role": "user", "content": "{input}"}]
CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% generation %}{{ message.content | trim }}{% endgeneration %}{{ '<|im_end|>\n' }}"
    "{%- if loop.last %}{% break %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if tools is none %}{{ eos_token }}{{ messages | tojson }}{% endif %}"
)


@pytest.fixture
def with_template(tokenizer):
    """The tokenizer with a template."""

    def make(template):
        own = copy.deepcopy(tokenizer)
        own.chat_template = template
        return own

    return make


def test_ordinary_templates_are_rendered_as_transformers_does(with_template):
    tokenizer = with_template(CHATML)
    for turns in (TURNS, [{"role": "system", "content": " é<b>\n"}, *TURNS]):
        for add in (True, False):
            expected = tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add
            )
            assert render_chat(tokenizer, turns, add_generation_prompt=add) == expected
    assert "{input}" in expected
    assert tokenizer.eos_token in expected


def test_today_is_always_the_same_day(with_template, caplog):
    tokenizer = with_template("{{ strftime_now('%Y-%m-%d') }} {{ messages[0].content }}")
    with caplog.at_level("INFO"):
        assert render_chat(tokenizer, TURNS) == f"{DATE} {{input}}"
        assert render_chat(tokenizer, TURNS) == f"{DATE} {{input}}"
    (line,) = [record.getMessage() for record in caplog.records if "date" in record.getMessage()]
    assert DATE in line


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ [1, 2, 3] | random }}", "random"),
        ("{{ lipsum() }}", "random"),
        ("{{ lipsum }}", "address"),
        ("{{ 'x' * 10 ** 10 }}", "memory"),
        ("{% for i in range(90000) %}xxxxxxxx{% endfor %}", "more than 100000 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "without end"),
        ("{{ raise_exception('only for tools') }}", "only for tools"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% if %}", "TemplateSyntaxError"),
        ("x" * (templates.MAX_TEMPLATE + 1), "at most 1000000 characters"),
    ],
    ids=lambda value: value[:30],
)
def test_templates_that_are_refused(with_template, template, reason):
    with pytest.raises(ValueError, match=f"(?s)Expected a chat template.*{reason}.*fix the"):
        render_chat(with_template(template), TURNS)


def test_loops_without_end_meet_their_limit_also_in_threads(with_template, monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 1.0)
    loop = "{% for i in range(90000) %}" * 2 + "{% set x = i %}" + "{% endfor %}" * 2
    told = []

    def render():
        try:
            render_chat(with_template(loop), TURNS)
        except ValueError as error:
            told.append(str(error))

    start = time.monotonic()
    thread = threading.Thread(target=render)
    thread.start()
    thread.join()
    assert len(told) == 1
    assert "did not end within 1 s" in told[0]
    assert time.monotonic() - start < 60
