"""Tiny models and tokenizers of many kinds, seeded, as people have them in their folders."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    MBartTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerFast,
)

N_TOKENS = 384
WORDS = [
    "red",
    "blue",
    "old",
    "cat",
    "dog",
    "hen",
    "sees",
    "likes",
    "finds",
    "the",
    "a",
    "on",
    "lake",
]
IDS = {"vocab_size": N_TOKENS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PLAIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER = {
    **PLAIN,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
}
HEADS = {**DECODER, "head_dim": 16}
ENCODER_DECODER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 256,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}
T5 = {
    "dropout_rate": 0.0,
    "d_model": 32,
    "d_ff": 48,
    "d_kv": 16,
    "num_heads": 2,
    "num_layers": 2,
    "decoder_start_token_id": 0,
}
VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 28,
    "patch_size": 14,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}

ARCHITECTURES = {
    # decoders
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 256,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "qwen3": HEADS,
    "gemma3_text": {**HEADS, "sliding_window": 8},
    "olmo2": DECODER,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "falcon": PLAIN,
    # encoder-decoders
    "t5": T5,
    "pegasus": ENCODER_DECODER,
    "m2m_100": {**ENCODER_DECODER, "decoder_start_token_id": 2},
    # state spaces and recurrences
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "mamba2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "state_size": 8,
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "rwkv": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "attention_hidden_size": 32,
        "context_length": 256,
    },
    # hybrids
    "recurrent_gemma": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "lru_width": 32,
        "attention_window_size": 16,
    },
    "jamba": {
        **DECODER,
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 8,
        "use_mamba_kernels": False,
    },
    "falcon_h1": {
        **HEADS,
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
    },
    "qwen3_next": {
        **HEADS,
        **EXPERTS,
        "num_hidden_layers": 4,
        "shared_expert_intermediate_size": 24,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    # experts
    "mixtral": {**DECODER, "num_local_experts": 4},
    "olmoe": {**DECODER, "num_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {**HEADS, **EXPERTS},
    "switch_transformers": {
        **T5,
        "num_decoder_layers": 2,
        "router_jitter_noise": 0.0,
        "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1,
        "num_experts": 4,
    },
    # the text part of a multimodal model
    "gemma3": {
        "text_config": {**HEADS, "sliding_window": 8, "vocab_size": N_TOKENS},
        "vision_config": VISION,
        "mm_tokens_per_image": 4,
        "image_token_index": 380,
        "boi_token_index": 381,
        "eoi_token_index": 382,
    },
    # masked models, which no target token is to be asked of
    "bert": {**PLAIN, "intermediate_size": 48},
    "roberta": {**PLAIN, "intermediate_size": 48},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 2},
    "llama": DECODER,
    "mbart": ENCODER_DECODER,
}
MASKED = ("bert", "roberta", "xlnet", "xlm")


def sentences(n, seed=0):
    """Sentences of known words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(2, 6))) for _ in range(n)]


def pairs(n, seed=0):
    """Pairs of texts of different lengths, the target made of words of the input."""
    return [
        (text, " ".join(text.split()[: 1 + i % 3])) for i, text in enumerate(sentences(n, seed))
    ]


def wrap(backend, **tokens):
    """A tokenizer of transformers with `<pad>`, `<s>` and `</s>`."""
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", **tokens}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


@functools.cache
def byte_level():
    """Byte-level BPE, lossless; ids 0, 1 and 2 are padding, beginning and end."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_TOKENS - 8,  # the last ids are free: a multimodal model has its own there
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(sentences(200), trainer)
    return wrap(backend)


def byte_level_without(piece):
    """Byte-level BPE without the token of one byte."""
    state = json.loads(byte_level().backend_tokenizer.to_str())
    state["model"]["merges"] = [
        pair for pair in state["model"]["merges"] if piece not in pair[0] + pair[1]
    ]
    del state["model"]["vocab"][piece]
    return wrap(Tokenizer.from_str(json.dumps(state)))


def sentence_piece_bpe():
    """SentencePiece's BPE with byte fallback and a space before every text, as Llama 2's."""
    special = ["<pad>", "<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    backend.train_from_iterator(sentences(200), trainer)
    state = json.loads(backend.to_str())
    state["added_tokens"] = state["added_tokens"][:4]  # bytes are ordinary pieces
    backend = Tokenizer.from_str(json.dumps(state))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return wrap(backend, unk_token="<unk>")


def unigram():
    """SentencePiece's Unigram without byte fallback: unknown characters are `<unk>`."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<pad>", "<s>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    backend.train_from_iterator(sentences(200), trainer)
    return wrap(backend, unk_token="<unk>")


def translator(kind, tgt_lang):
    """A tokenizer of mBART (the language behind the end token) or NLLB (in front of the text)."""
    if kind == "mbart":
        state = json.loads(unigram().backend_tokenizer.to_str())["model"]["vocab"]
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        words = [(piece, score) for piece, score in state if piece not in special]
        vocab = [*((piece, 0.0) for piece in special), *words]
        return MBartTokenizer(vocab=vocab, src_lang="en_XX", tgt_lang=tgt_lang)
    state = json.loads(sentence_piece_bpe().backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in state["merges"]]
    return NllbTokenizer(
        vocab=state["vocab"], merges=merges, src_lang="eng_Latn", tgt_lang=tgt_lang
    )


def config(name, **changes):
    """The config of one of `ARCHITECTURES`."""
    settings = {**ARCHITECTURES[name], **changes}
    return AutoConfig.for_model(name, **{**({} if "text_config" in settings else IDS), **settings})


def build(name, **changes):
    """A random model, its logits far from uniform."""
    made = config(name, **changes)
    auto = AutoModelForSeq2SeqLM if made.is_encoder_decoder else AutoModelForCausalLM
    torch.manual_seed(0)
    model = auto.from_config(made).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def save(folder: Path, name, tokenizer=None, **changes) -> Path:
    """A folder with a random model and a tokenizer."""
    build(name, **changes).save_pretrained(folder)
    (tokenizer or byte_level()).save_pretrained(folder)
    return folder
