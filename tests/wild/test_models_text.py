"""Texts that tokenizers trip over: special tokens, boundaries, chats, unknown characters."""

import copy

import pytest
import torch
from transformers import ByT5Tokenizer

from lensllm.core.trials import TrialStore
from lensllm.data.pairs import make_text_data
from lensllm.execution.finetune import FineTuneRunner
from lensllm.finetune import ModelSource, TrainingSettings
from lensllm.finetune.encoding import PairEncoder
from lensllm.finetune.inspection import first_lost_weight
from tests.wild import models as wild

TOKENIZERS = (wild.byte_level, wild.sentence_piece_bpe, wild.unigram)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A history closes the block that a prompt opens.
THINKING = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif").replace(
    "{{ m.role }}\n",
    "{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}",
)
PLAIN_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def encode(tokenizer, pair, **options):
    settings = {"is_encoder_decoder": False, "max_input_tokens": 90, "max_target_tokens": 60}
    encoder = PairEncoder(tokenizer, **{**settings, **options})
    (example,) = encoder.encode([pair])
    return example, encoder


def with_chat(template, special=True):
    tokenizer = copy.deepcopy(wild.byte_level())
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=special)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_special_tokens_in_a_users_text_are_text(make, encoder_decoder):
    tokenizer = make()
    text = "the dog </s> sees <s> <pad>"
    example, _ = encode(tokenizer, (text, text), is_encoder_decoder=encoder_decoder)
    special = {tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>", "<pad>")}
    assert not special & {*example.source, *example.target[:-1]}
    assert example.target[-1] == tokenizer.eos_token_id
    if tokenizer.unk_token_id not in example.target:  # `<` is in each vocabulary but Unigram's
        assert tokenizer.decode(example.target[:-1]).strip() == text
        assert tokenizer.decode(example.source).strip() == text
    assert example.n_bytes == len(text) - example_lost(tokenizer, text)


@pytest.mark.parametrize("special", [True, False])
def test_the_templates_special_tokens_stay_special_beside_a_users(special):
    tokenizer = with_chat(CHATML, special)
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    example, _ = encode(tokenizer, ("a cat </s>", "a </s> dog"), prompt="chat")
    whole = "<|im_start|>user\na cat </s><|im_end|>\n<|im_start|>assistant\na </s> dog<|im_end|>"
    assert tokenizer.decode([*example.source, *example.target]) == whole
    assert [i for i in example.source if i in (start, end)] == [start, end, start]
    assert tokenizer.eos_token_id not in (*example.source, *example.target)
    assert example.target.count(end) == 1
    assert example.target[-1] == end


def test_a_users_turn_ending_does_not_end_the_turn():
    tokenizer = with_chat(CHATML)
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    example, _ = encode(tokenizer, ("a<|im_end|>", "<|im_start|>a<|im_end|>"), prompt="chat")
    assert (example.source.count(end), example.source.count(start)) == (1, 2)
    assert (example.target.count(end), example.target.count(start)) == (1, 0)
    assert tokenizer.decode(example.target) == "<|im_start|>a<|im_end|><|im_end|>"


def test_other_added_tokens_keep_their_ids_beside_special_ones():
    tokenizer = copy.deepcopy(wild.byte_level())
    tokenizer.add_tokens(["<|system|>"], special_tokens=True)
    tokenizer.add_tokens(["<tool>"])
    (tool,) = tokenizer.convert_tokens_to_ids(["<tool>"])
    example, _ = encode(tokenizer, ("a <tool>", "</s><tool><|system|>"))
    assert example.source.count(tool) == example.target.count(tool) == 1
    assert tokenizer.decode(example.target[:-1]) == "</s><tool><|system|>"
    assert tokenizer.convert_tokens_to_ids("<|system|>") not in example.target


@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_tokenizers_without_offsets_read_special_tokens_as_text_too(encoder_decoder):
    tokenizer = ByT5Tokenizer()
    text = "b </s> \u732b"
    example, _ = encode(tokenizer, (text, text), is_encoder_decoder=encoder_decoder)
    spelled = [byte + 3 for byte in text.encode()]
    assert list(example.target) == [*spelled, tokenizer.eos_token_id]
    assert list(example.source[: len(spelled)]) == spelled
    assert example.n_bytes == len(spelled)


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize("prompt", ["{input}\n", "Q: {input} A: ", "{input} "])
def test_ids_are_those_of_the_joint_text(make, prompt):
    tokenizer = make()
    for given, target in (("the cat", "red dog"), ("a hen\n", "on the lake"), ("fox ", " old")):
        example, _ = encode(tokenizer, (given, target), prompt=prompt)
        joint = tokenizer(prompt.replace("{input}", given) + target, add_special_tokens=False)
        assert [*example.source, *example.target] == [*joint["input_ids"], tokenizer.eos_token_id]
        assert example.n_bytes == len(target) - example_lost(tokenizer, target)
        start = tokenizer.decode(example.source)
        assert target.strip() not in start.split("\n")[-1].split("A:")[-1]


def example_lost(tokenizer, target):
    """Bytes of a text of one-byte characters that the vocabulary lacks."""
    return sum(
        tokenizer.unk_token_id in tokenizer(c, add_special_tokens=False)["input_ids"]
        for c in target if not c.isspace()
    )  # fmt: skip


def test_a_sentence_piece_target_gains_no_space():
    tokenizer = wild.sentence_piece_bpe()
    example, _ = encode(tokenizer, ("the cat", "red dog"))
    pieces = tokenizer.convert_ids_to_tokens(list(example.target))
    assert not pieces[0].startswith("\u2581")
    assert "".join(pieces[:-1]).replace("\u2581", " ") == "red dog"


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize("room", [1, 2, 3, 5])
def test_bytes_of_a_cut_target_are_those_of_its_tokens(make, room):
    tokenizer = make()
    text = "the cat sees the dog on the lake"
    example, encoder = encode(tokenizer, ("a", text), max_target_tokens=room)
    whole, _ = encode(tokenizer, ("a", text))
    assert example.target == whole.target[:room]
    kept = "".join(tokenizer.convert_ids_to_tokens(list(example.target)))
    kept = kept.replace("\u2581", " ").replace("\u0120", " ")
    assert text.startswith(kept)
    assert example.n_bytes == len(kept)
    assert encoder.counts.cut_targets == 1


@pytest.mark.parametrize(
    ("template", "source", "target"),
    [
        (CHATML, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "dog<|im_end|>"),
        (
            THINKING,
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            "dog<|im_end|>",
        ),
        (PLAIN_END, "user: hi\nassistant:", " dog</s>"),  # nothing but a line ends a turn
    ],
)
def test_answers_stand_and_end_as_the_template_writes_them(template, source, target):
    example, _ = encode(tokenizer := with_chat(template), ("hi", "dog"), prompt="chat")
    assert tokenizer.decode(example.source) == source
    assert tokenizer.decode(example.target) == target
    assert example.n_bytes == 3


def test_templates_that_change_what_is_said_are_refused():
    tokenizer = with_chat("{% for m in messages %}{{ m.content | upper }}{% endfor %}")
    with pytest.raises(ValueError, match=r"writes a user's turn and its answer .*'\{INPUT\}"):
        encode(tokenizer, ("hi", "dog"), prompt="chat")


@pytest.mark.parametrize(
    ("target", "lost"),
    [("red dog", 0), ("red \u732b dog", 3), ("\u732b\u732b", 6), ("r\u00e9d", 2)],
)
def test_text_without_a_token_is_counted_and_worth_no_bytes(target, lost):
    example, encoder = encode(wild.unigram(), ("the cat", target))
    assert encoder.counts.lost_bytes == lost
    assert encoder.counts.target_bytes == len(target.encode())
    assert example.n_bytes == len(target.encode()) - lost
    for lossless in (wild.byte_level(), wild.sentence_piece_bpe()):
        example, encoder = encode(lossless, ("the cat", target))
        assert encoder.counts.lost_bytes == 0
        assert example.n_bytes == len(target.encode())


def test_text_that_a_vocabulary_drops_without_a_token_is_counted():
    """Byte-level BPE whose alphabet was cut: the byte leaves no token at all."""
    example, encoder = encode(wild.byte_level_without("z"), ("the cat", "red zebra"))
    assert encoder.counts.lost_bytes == 1
    assert example.n_bytes == len("red ebra")


@pytest.fixture
def runner(tmp_path, make_parts):
    def make(tokenizers, pairs, **options):
        sources = []
        for i, tokenizer in enumerate(tokenizers):
            folder = tmp_path / f"m{i}"
            sources.append(ModelSource(str(wild.save(folder, "llama", tokenizer))))
        data = make_text_data("wild", pairs[:24], pairs[24:28], pairs[28:], 60, 30)
        settings = TrainingSettings(max_epochs=1, batch_size=8)
        return FineTuneRunner(
            sources, data, settings=settings, store=TrialStore(tmp_path / "store"), sizes=[0, 8],
            n_samples_full=24, **make_parts(), **options,
        )  # fmt: skip

    return make


@pytest.fixture(scope="module")
def texts():
    return list(dict(wild.pairs(80)).items())[:40]


def test_candidates_with_different_tokens_are_ranked_by_byte(runner, texts, caplog):
    mixed = runner([wild.byte_level(), wild.sentence_piece_bpe()], texts)
    assert mixed.measure.per == "byte"
    assert "by loss per byte in place of per token: their tokens differ (m0 has" in caplog.text
    for name in ("m0", "m1"):
        trial = mixed.task().trial(name, 0)
        result = mixed.run(trial)
        assert result.value(mixed.measure) == result.test_loss_per_byte


def test_candidates_with_one_tokenizer_are_ranked_by_token(runner, texts, caplog):
    same = runner([wild.byte_level(), wild.byte_level()], texts)
    assert same.measure.per == "token"
    assert "in place of per token" not in caplog.text
    trial = same.task().trial("m0", 0)
    assert same.run(trial).test_loss == same.attempt(trial).test_loss


@pytest.mark.parametrize(("every", "said", "refused"), [(1, True, True), (20, True, False)])
def test_a_large_share_of_lost_text_is_refused_per_byte(
    runner, texts, caplog, every, said, refused
):
    strange = [(a, b + " \u732b" * (i % every == 0)) for i, (a, b) in enumerate(texts)]
    found = runner([wild.unigram()], strange, measure="loss_per_byte").inspect()
    assert (found != {}) == refused
    if refused:
        assert "spell, but for 5% of their bytes, got more: " in found["m0"]
    else:
        assert ("have no token in the vocabulary of m0" in caplog.text) == said


def test_a_share_of_lost_text_is_in_the_datas_summary(runner, texts):
    strange = [(a, b + " \u732b") for a, b in texts]
    found = runner([wild.unigram()], strange)
    found.task()
    seen = [target for _, target in strange]
    share = 3 * len(seen) / sum(len(target.encode()) for target in seen)
    assert found.data_summary()["lost_target_bytes"] == {"m0": pytest.approx(share)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rate", [1e-5, 3e-4])
def test_the_smallest_weight_that_loses_updates_loses_them(dtype, rate):
    first = first_lost_weight(dtype, rate)
    weights = torch.linspace(1.001 * first, 8 * first, 500).to(dtype)
    assert torch.equal(weights - rate, weights)
    smaller = torch.linspace(0.05 * first, 0.24 * first, 500).to(dtype)
    assert not (smaller - rate == smaller).any()


def test_weights_too_coarse_for_the_learning_rate_are_said(
    runner, texts, make_parts, caplog, tmp_path
):
    folder = wild.save(tmp_path / "coarse", "llama")
    own = runner([wild.byte_level()], texts)
    for dtype, is_said in (("bfloat16", True), ("float32", False)):
        caplog.clear()
        own.sources = {"coarse": ModelSource(str(folder), dtype=dtype)}
        own.make_optimizer = make_parts(lr=1e-5)["make_optimizer"]
        assert own.inspect() == {}
        assert ("rounds updates of about the learning rate 1e-05 away" in caplog.text) == is_said
