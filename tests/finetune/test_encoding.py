import copy
import math

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from lensllm.data.rows import nested_subset
from lensllm.finetune.encoding import (
    IGNORED,
    Collator,
    EncodingCounts,
    Example,
    LengthBucketSampler,
    PairEncoder,
    context_length,
    forward_logits,
    target_loss,
)

ARCHITECTURES = ("gpt2", "opt", "gpt_neox", "llama", "t5", "bart")


@pytest.fixture(scope="module")
def load(model_folders):
    """A tiny random model in float64, in eval mode, its logits far from uniform."""

    def load(name):
        encoder_decoder = name in ("t5", "bart")
        auto = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
        model = auto.from_pretrained(model_folders[name]).double().eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter += 0.2 * noise
        return model, encoder_decoder

    return load


@pytest.fixture(scope="module")
def examples(tokenizer, pairs):
    encoder = PairEncoder(
        tokenizer, is_encoder_decoder=False, max_input_tokens=48, max_target_tokens=24
    )
    examples = encoder.encode(pairs[:7])
    short = Example(examples[0].source[:3], examples[0].target[-2:], 1)
    return [*examples, short]


def reference(model, example, encoder_decoder):
    """Summed cross-entropy of one example: no padding, no mask, no batch, softmax by hand."""
    source, target = list(example.source), list(example.target)
    with torch.no_grad():
        if encoder_decoder:
            given = [model.config.decoder_start_token_id, *target[:-1]]
            logits = model(
                input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([given])
            ).logits[0]
        else:
            logits = model(input_ids=torch.tensor([source + target])).logits[0]
            logits = logits[len(source) - 1 : len(source) + len(target) - 1]
    assert logits.dtype == torch.float64
    total = 0.0
    for row, token in zip(logits.tolist(), target, strict=True):
        top = max(row)
        total += top + math.log(sum(math.exp(x - top) for x in row)) - row[token]
    return total


def batch_loss(model, examples, encoder_decoder, pad=0):
    with torch.no_grad():
        collator = Collator(pad, is_encoder_decoder=encoder_decoder)
        total, count = target_loss(model, collator(examples))
    assert total.dtype == torch.float64
    return float(total), int(count)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_is_that_of_plain_forward_passes_one_by_one(load, examples, name):
    model, encoder_decoder = load(name)
    expected = [reference(model, example, encoder_decoder) for example in examples]
    total, count = batch_loss(model, examples, encoder_decoder)
    assert count == sum(len(example.target) for example in examples)
    assert total == pytest.approx(sum(expected), rel=1e-9)
    assert total / count > 2  # the models are not so sure of themselves that errors vanish
    for example, value in zip(examples, expected, strict=True):
        assert batch_loss(model, [example], encoder_decoder)[0] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_depends_on_neither_batches_order_nor_padding(load, examples, name):
    model, encoder_decoder = load(name)
    whole = batch_loss(model, examples, encoder_decoder)[0]
    assert batch_loss(model, examples[::-1], encoder_decoder)[0] == pytest.approx(whole, rel=1e-9)
    parts = [batch_loss(model, examples[i : i + 3], encoder_decoder)[0] for i in (0, 3, 6)]
    assert sum(parts) == pytest.approx(whole, rel=1e-9)
    other_pad = batch_loss(model, examples, encoder_decoder, pad=17)[0]
    assert other_pad == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_come_from_target_tokens_alone(load, examples, name):
    """Swapping a target token moves the loss, and each example adds its own gradient."""
    model, encoder_decoder = load(name)
    collator = Collator(0, is_encoder_decoder=encoder_decoder)

    def gradient(batch):
        model.zero_grad()
        target_loss(model, collator(batch))[0].backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    together = gradient(examples[-3:])
    alone = sum(gradient([example]) for example in examples[-3:])
    assert torch.allclose(together, alone, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_labels_stand_on_target_tokens_alone(examples, encoder_decoder):
    batch = Collator(0, is_encoder_decoder=encoder_decoder)(examples)
    for i, example in enumerate(examples):
        kept = batch["labels"][i][batch["labels"][i] != IGNORED]
        assert kept.tolist() == list(example.target)
        seen = batch["input_ids"][i][batch["attention_mask"][i] == 1].tolist()
        given = [] if encoder_decoder else list(example.target[:-1])
        assert seen == [*example.source, *given]
    width = max(len(example.target) for example in examples)
    assert batch["labels"].shape == (len(examples), width)
    assert int(batch["n_tokens"]) == sum(len(e.source) + len(e.target) for e in examples)
    assert batch["n_bytes"].tolist() == [example.n_bytes for example in examples]
    column = 0 if encoder_decoder else -1
    assert (batch["labels"][:, column] != IGNORED).all()


def test_logits_are_aligned_with_labels(load, examples):
    model, _ = load("opt")
    batch = Collator(0, is_encoder_decoder=False)(examples)
    with torch.no_grad():
        logits = forward_logits(model, batch)
    assert logits.shape[:2] == batch["labels"].shape


def test_half_precision_logits_are_summed_in_float32(model_folders, examples):
    model = AutoModelForCausalLM.from_pretrained(model_folders["gpt2"], dtype=torch.bfloat16)
    batch = Collator(0, is_encoder_decoder=False)(examples)
    assert target_loss(model, batch)[0].dtype == torch.float32


def encoder(tokenizer, **changes):
    settings = {"is_encoder_decoder": False, "max_input_tokens": 48, "max_target_tokens": 24}
    return PairEncoder(tokenizer, **{**settings, **changes})


def test_a_pair_becomes_prompt_input_and_target(tokenizer):
    (example,) = encoder(tokenizer, prompt="Text: {input} Say: ").encode([("The cat", "CAT É")])
    whole = tokenizer("Text: The cat Say: CAT É")["input_ids"]
    assert [*example.source, *example.target] == [*whole, tokenizer.eos_token_id]
    assert tokenizer.decode(example.source) == "Text: The cat Say:"
    assert tokenizer.decode(example.target[:-1]) == " CAT É"  # in one token with the space
    assert example.n_bytes == 6
    assert example.n_tokens == len(example.source) + len(example.target)


def test_truncation_cuts_the_input_and_keeps_the_prompt(tokenizer):
    long = "the old cat sees the small dog " * 20
    short = encoder(tokenizer, prompt="Text: {input} Say: ", max_input_tokens=5)
    (example,) = short.encode([(long, "CAT")])
    text = tokenizer.decode(example.source)
    assert text.startswith("Text: the old")
    assert text.endswith(" Say:")
    frame = sum(len(tokenizer(part)["input_ids"]) for part in ("Text:", " Say:"))
    assert len(example.source) == frame + 5


def test_targets_that_are_cut_have_no_end_token_and_count_their_own_bytes(tokenizer):
    text = "CAT EATS DOG " * 10
    cutting = encoder(tokenizer, max_target_tokens=6)
    (example,) = cutting.encode([("x y", text)])
    assert list(example.target) == tokenizer(text)["input_ids"][:6]
    kept = tokenizer.decode(example.target)
    assert text.startswith(kept)
    assert example.n_bytes == len(kept.encode()) < len(text)
    assert cutting.counts.cut_targets == 1


def test_a_target_that_fits_but_for_its_end_token_keeps_its_text(tokenizer):
    text = "CAT EATS \u732b"
    ids = tokenizer(text)["input_ids"]
    for room, end, n_cut in ((len(ids) + 1, [tokenizer.eos_token_id], 0), (len(ids), [], 1)):
        fitting = encoder(tokenizer, max_target_tokens=room)
        (example,) = fitting.encode([("x y", text)])
        assert list(example.target) == [*ids, *end]
        assert example.n_bytes == len(text.encode())
        assert fitting.counts.cut_targets == n_cut


def test_a_cut_inside_a_character_counts_its_bytes_as_they_are(tokenizer):
    text = "\u732b" * 4
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == 12  # the tokenizer has never seen it: one token per byte
    (example,) = encoder(tokenizer, max_target_tokens=4).encode([("x y", text)])
    assert list(example.target) == ids[:4]
    assert example.n_bytes == 4
    assert len(tokenizer.decode(ids[:4]).encode()) == 6


def test_bytes_are_those_of_the_text_not_its_characters(tokenizer):
    texts = ["abc", "äöü", "猫", "🦊 fox"]
    examples = encoder(tokenizer).encode([("x y", text) for text in texts])
    assert [example.n_bytes for example in examples] == [3, 6, 3, 8]


def test_the_context_limits_the_input_so_that_all_fits(tokenizer):
    long = "the old cat sees the small dog " * 20
    decoder = encoder(tokenizer, max_input_tokens=500, context=40)
    (example,) = decoder.encode([(long, "CAT " * 50)])
    assert len(example.source) + len(example.target) == 40
    assert decoder.counts == EncodingCounts(1, 1, 1, 0, 200)
    with pytest.raises(ValueError, match=r"context of 24 tokens .*max_target_tokens = 24: lower"):
        encoder(tokenizer, context=24)


def test_the_context_limits_both_sides_of_an_encoder_decoder(tokenizer, load):
    model, _ = load("bart")
    context = context_length(model.config)
    both = encoder(
        tokenizer, max_input_tokens=500, max_target_tokens=500, context=context,
        is_encoder_decoder=True,
    )  # fmt: skip
    (example,) = both.encode([("the old cat sees the small dog " * 40, "CAT EATS DOG " * 90)])
    assert (len(example.source), len(example.target)) == (context, context)
    assert both.counts == EncodingCounts(1, 1, 1, 0, 1170)
    assert batch_loss(model, [example], True)[1] == context


@pytest.mark.parametrize("prompt", ["", "{text}", "{input}{input}"])
def test_prompts_without_one_input_are_refused(tokenizer, prompt):
    with pytest.raises(ValueError, match=f"once, got '{prompt}'"):
        encoder(tokenizer, prompt=prompt)


def test_nothing_to_condition_on_is_refused_where_it_cannot_be_encoded(tokenizer):
    with pytest.raises(ValueError, match="at least one token before the target, got input ''"):
        encoder(tokenizer, prompt="{input}").encode([("x", "CAT"), ("", "CAT")])
    (example,) = encoder(tokenizer, prompt="{input}", is_encoder_decoder=False).encode(
        [("x", "CAT")]
    )
    assert len(example.source) == 1


def with_special_tokens(tokenizer, template):
    tokenizer = copy.deepcopy(tokenizer)
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=ids
    )
    return tokenizer


@pytest.mark.parametrize(
    ("template", "encoder_decoder", "source", "target"),
    [
        ("$A", False, "{}\n", "{}</s>"),  # GPT-2, GPT-NeoX
        ("<s> $A", False, "<s>{}\n", "{}</s>"),  # Llama
        ("</s> $A", False, "</s>{}\n", "{}</s>"),  # OPT
        ("$A </s>", True, "{}\n</s>", "{}</s>"),  # T5
        ("<s> $A </s>", True, "<s>{}\n</s>", "<s>{}</s>"),  # BART
        ("<s> $A </s>", False, "<s>{}\n", "{}</s>"),  # an end token would stop a decoder
    ],
)
def test_special_tokens_stand_where_the_tokenizer_sets_them(
    tokenizer, template, encoder_decoder, source, target
):
    tokenizer = with_special_tokens(tokenizer, template)
    (example,) = encoder(tokenizer, is_encoder_decoder=encoder_decoder).encode([("the cat", "DOG")])
    assert tokenizer.decode(example.source) == source.format("the cat")
    assert tokenizer.decode(example.target) == target.format("DOG")
    plain = tokenizer("the cat", add_special_tokens=False)["input_ids"]
    assert example.n_bytes == 3
    assert [i for i in example.source if i not in (1, 2)][: len(plain)] == plain


def test_without_an_end_token_the_target_is_the_text_alone(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.eos_token = None
    (example,) = encoder(tokenizer).encode([("x", "CAT")])
    assert tokenizer.decode(example.target) == "CAT"


def test_no_pairs_give_no_examples(tokenizer):
    assert encoder(tokenizer).encode([]) == []


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (AutoConfig.for_model("gpt2", n_positions=77), 77),
        (AutoConfig.for_model("llama", max_position_embeddings=99), 99),
        (AutoConfig.for_model("bart", max_position_embeddings=55), 55),
        (AutoConfig.for_model("t5"), None),
    ],
)
def test_context_length_is_read_off_the_config(config, length):
    assert context_length(config) == length


LENGTHS = [(7 * i) % 41 + 1 for i in range(103)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 8, 103, 500])
def test_sampler_visits_every_example_once(shuffle, batch_size):
    sampler = LengthBucketSampler(LENGTHS, batch_size, 3, shuffle=shuffle, window=4)
    batches = list(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(103))
    assert len(batches) == len(sampler) == math.ceil(103 / batch_size)
    assert all(len(batch) <= batch_size for batch in batches)


def test_sampler_order_is_decided_by_seed_and_epoch():
    def order(seed, epoch):
        sampler = LengthBucketSampler(LENGTHS, 8, seed)
        sampler.set_epoch(epoch)
        return [list(map(int, batch)) for batch in sampler]

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert orders == [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))


def test_sampler_batches_hold_examples_of_similar_length():
    def spread(batches):
        groups = [[LENGTHS[i] for i in batch] for batch in batches]
        return sum(max(group) - min(group) for group in groups) / len(groups)

    shuffled = list(LengthBucketSampler(LENGTHS, 8, 0))
    plain = [list(range(i, min(i + 8, 103))) for i in range(0, 103, 8)]
    assert spread(shuffled) < 0.4 * spread(plain)
    lengths = [
        LENGTHS[i] for batch in LengthBucketSampler(LENGTHS, 8, shuffle=False) for i in batch
    ]
    assert lengths == sorted(lengths)


def test_sampler_refuses_a_batch_of_nothing():
    with pytest.raises(ValueError, match="`batch_size` > 0, got 0"):
        LengthBucketSampler(LENGTHS, 0)


def test_subsets_of_one_seed_are_nested_and_of_two_seeds_are_not():
    whole = nested_subset(100, 100, 5).tolist()
    assert sorted(whole) == list(range(100))
    for n in (0, 1, 13, 64):
        assert nested_subset(100, n, 5).tolist() == whole[:n]
    assert nested_subset(100, 64, 6).tolist() != whole[:64]
    with pytest.raises(ValueError, match=r"`n_samples` <= 100, .*got 101"):
        nested_subset(100, 101, 5)


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt_neox", "llama"])
def test_the_padding_side_does_not_change_the_loss(load, examples, name):
    """Padded on the right by hand, with the full logits, against the collator's left."""
    model, _ = load(name)
    rows = [torch.tensor([*e.source, *e.target]) for e in examples]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        log_p = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    total = -sum(
        float(log_p[i, len(e.source) - 1 : len(e.source) + len(e.target) - 1]
              .gather(1, torch.tensor(e.target)[:, None]).sum())
        for i, e in enumerate(examples)
    )  # fmt: skip
    assert batch_loss(model, examples, False)[0] == pytest.approx(total, rel=1e-9)


DECODER = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip
ENCODER_DECODER = {
    "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
    "decoder_start_token_id": 0, "initializer_factor": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *[(kind, DECODER) for kind in ("qwen2", "qwen3", "gemma2", "gemma3_text", "smollm3")],
        ("phi3", DECODER),
        ("phi", {k: v for k, v in DECODER.items() if k not in ("head_dim", "num_key_value_heads")}),
        ("mt5", ENCODER_DECODER),
        ("switch_transformers", {**ENCODER_DECODER, "num_experts": 4}),
    ],
)
def test_the_loss_of_every_configured_class_depends_on_no_batch(tokenizer, examples, kind, options):
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **options)
    encoder_decoder = bool(config.is_encoder_decoder)
    auto = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    torch.manual_seed(0)
    model = auto.from_config(config).eval()  # in float32: gemma2 pads with its smallest number

    def total(batch):
        with torch.no_grad():
            return float(
                target_loss(model, Collator(0, is_encoder_decoder=encoder_decoder)(batch))[0]
            )

    alone = sum(total([example]) for example in examples)
    assert total(examples) == pytest.approx(alone, rel=1e-5)
    assert total(examples[:3]) + total(examples[:2:-1]) == pytest.approx(alone, rel=1e-5)


def test_what_is_cut_and_dropped_is_counted(tokenizer):
    long = "the old cat sees the small dog " * 20
    short = encoder(tokenizer, max_input_tokens=5, max_target_tokens=4)
    found = short.encode([(long, "A"), ("x", long), ("x", "A")])
    assert len(found) == 3
    assert short.counts == EncodingCounts(3, 1, 1, 0, 622)
    none = encoder(tokenizer)
    assert none.encode([("x", ""), ("x", "CAT")]) == encoder(tokenizer).encode([("x", "CAT")])
    assert none.counts.dropped == 1


def test_a_chat_template_goes_around_the_input(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    with pytest.raises(ValueError, match=r"a chat template for training\.prompt=chat"):
        encoder(tokenizer, prompt="chat")
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant: {% endif %}"
    )
    (example,) = encoder(tokenizer, prompt="chat").encode([("the cat", "DOG")])
    assert tokenizer.decode(example.source) == "<s>user: the cat</s><s>assistant:"
    assert tokenizer.decode(example.target) == " DOG</s>"  # the template's space goes with it
