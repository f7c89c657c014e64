import pytest
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordPiece
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from lensllm.finetune.cutting import cut_target

BYTES = {f"<0x{byte:02X}>": i for i, byte in enumerate(range(256), start=3)}
SPECIAL = {"<pad>": 0, "</s>": 1, "<unk>": 2}


def wrap(model, normalizer=None, pre_tokenizer=None, decoder=None):
    backend = Tokenizer(model)
    for name, part in {
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "decoder": decoder,
    }.items():
        if part is not None:
            setattr(backend, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")


def byte_level(normalizer=None, merges=(), add_prefix_space=False):
    """One token per byte, but for merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*SPECIAL, *alphabet, *(a + b for a, b in merges)]
    return wrap(
        BPE({piece: i for i, piece in enumerate(pieces)}, list(merges)),
        normalizer,
        pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=False),
        decoders.ByteLevel(),
    )


def unigram():
    """SentencePiece's Unigram with byte fallback, as in T5's and mT5's families."""
    words = ["\u2581", "\u2581the", "\u2581cat", "\u2581", "s", "a", "\u00e9"]
    vocab = [(piece, -20.0) for piece in (*SPECIAL, *BYTES)]
    vocab += [(word, -2.0) for word in dict.fromkeys(words)]
    return wrap(
        Unigram(vocab, unk_id=2, byte_fallback=True),
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
        decoder=decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
    )


def llama():
    """SentencePiece's BPE with byte fallback, as in Llama 2 and Mistral."""
    vocab = {**SPECIAL, **BYTES}
    for piece in ("\u2581", "c", "a", "t"):
        vocab[piece] = len(vocab)
    return wrap(
        BPE(vocab, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True),
        normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]),
    )


def word_piece():
    """Lower case, accents dropped, as in BERT."""
    words = ["<pad>", "</s>", "[UNK]", "cafe", "##s", "\u732b", "on", "the", "in", "."]
    return wrap(
        WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"),
        normalizers.BertNormalizer(lowercase=True, strip_accents=True),
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(),
    )


def cut(tokenizer, text, n_tokens):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert n_tokens < len(ids)
    kept, n_bytes = cut_target(tokenizer, text, ids, n_tokens)
    return len(kept), n_bytes


@pytest.mark.parametrize(
    "text", ["a\u65e5\u672c\u8a9e", "\U0001f98a fox \U0001f600", "\u00e9te\u0301 x"]
)
def test_byte_level_tokens_stand_for_their_own_bytes(text):
    """Also where the cut goes through a character, which decoding would write as U+FFFD."""
    for n in range(1, len(text.encode())):
        assert cut(byte_level(), text, n) == (n, n)


def test_six_for_four():
    tokenizer, text = byte_level(), "\u65e5\u672c"
    ids = tokenizer(text)["input_ids"]
    assert len(tokenizer.decode(ids[:4]).encode()) == 6
    assert cut(tokenizer, text, 4) == (4, 4)


def test_merged_bytes_of_two_characters():
    """One token holds the end of a character and the beginning of the next."""
    text = "\u65e5\u672c"
    pieces = [
        piece
        for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    ]
    letters = "".join(pieces)
    tokenizer = byte_level(merges=[(letters[2], letters[3])])
    assert [cut(tokenizer, text, n)[1] for n in (1, 2, 3, 4)] == [1, 2, 4, 5]


def test_a_space_put_before_the_text_is_none_of_its_bytes():
    assert cut(byte_level(add_prefix_space=True), "caf\u00e9s", 5) == (5, 4)
    assert cut(byte_level(add_prefix_space=True), " cats", 3) == (3, 3)
    assert cut(llama(), "cat cat", 4) == (4, 3)


@pytest.mark.parametrize("make", [unigram, llama])
def test_byte_fallback_is_counted_by_bytes(make):
    tokenizer, text = make(), "a\U0001f98aa"
    first = len(tokenizer("a", add_special_tokens=False)["input_ids"])
    for extra in range(5):
        assert cut(tokenizer, text, first + extra) == (first + extra, 1 + extra)


def test_sentence_piece_with_spaces_and_accents():
    tokenizer = unigram()
    text = "the cats a\u00e9 \u732b"
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])[:5] == [
        "\u2581the", "\u2581cat", "s", "\u2581", "a",
    ]  # fmt: skip
    assert [cut(tokenizer, text, n)[1] for n in (1, 2, 3, 5, 6)] == [3, 7, 8, 10, 12]


def test_lower_case_and_lost_accents_leave_the_bytes_of_the_original():
    tokenizer, text = word_piece(), "Caf\u00c9s  \u732b on The  cafe\u0301 ."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids[:4]) == "cafes \u732b on"
    ends = ["Caf\u00c9", "Caf\u00c9s", "Caf\u00c9s  \u732b", "Caf\u00c9s  \u732b on"]
    assert [cut(tokenizer, text, n) for n in (1, 2, 3, 4)] == [
        (n, len(end.encode())) for n, end in enumerate(ends, start=1)
    ]
    assert cut(tokenizer, text, 6) == (6, len(text.removesuffix(" .").encode()))


def test_decoders_clean_up_costs_no_bytes(tokenizer):
    text = "do n't , ever . stop"
    tokenizer.clean_up_tokenization_spaces = True
    ids = tokenizer(text)["input_ids"]
    for n in range(1, len(ids)):
        kept, n_bytes = cut_target(tokenizer, text, ids, n)
        plain = tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        assert (len(kept), n_bytes) == (n, len(plain.encode()))


def test_a_cut_through_a_normalised_character_moves_back_to_the_last_whole_one():
    """NFC makes one character of two bytes out of e and its accent, three bytes of text."""
    tokenizer, text = byte_level(normalizers.NFC()), "e\u0301te\u0301s"
    assert len(tokenizer(text)["input_ids"]) == 6
    expected = [(0, 0), (2, 3), (3, 4), (3, 4), (5, 7)]
    assert [cut(tokenizer, text, n) for n in (1, 2, 3, 4, 5)] == expected
    # NFKC makes two letters out of one character
    tokenizer, text = byte_level(normalizers.NFKC()), "1\u338f2"
    assert [cut(tokenizer, text, n) for n in (1, 2, 3)] == [(1, 1), (1, 1), (3, 4)]


def test_byt5():
    text = "a\u65e5\u672c\u00e9"
    assert [cut(ByT5Tokenizer(), text, n) for n in range(1, 9)] == [(n, n) for n in range(1, 9)]


class WithoutOffsets:
    """A tokenizer in Python, which knows no offsets."""

    is_fast = False

    def __init__(self, tokenizer):
        self.convert_ids_to_tokens = tokenizer.convert_ids_to_tokens
        self.tokenizer = tokenizer

    def __call__(self, text, add_special_tokens, verbose=False):
        return {
            "input_ids": self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        }


def test_a_tokenizer_without_offsets_keeps_the_longest_beginning():
    tokenizer, text = WithoutOffsets(word_piece()), "Caf\u00c9s  \u732b on The"
    ends = ["Caf\u00c9", "Caf\u00c9s  ", "Caf\u00c9s  \u732b ", "Caf\u00c9s  \u732b on "]
    assert [cut(tokenizer, text, n) for n in (1, 2, 3, 4)] == [
        (n, len(end.encode())) for n, end in enumerate(ends, start=1)
    ]
