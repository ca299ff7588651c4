"""Rebuilds a Hugging Face tokenizer.json from the token tables of a GGUF file.

Two kinds, as GGUF names them in `tokenizer.ggml.model`:
  gpt2   byte-level BPE; the merges are in the file, the pre-tokenizer follows from `tokenizer.ggml.pre`
  llama  SentencePiece BPE with byte fallback; the file has scores, from which the merges follow: a pair joins
         earlier the higher the score of what it makes
Anything else is refused.
"""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"  # how SentencePiece writes a space


class UnsupportedTokenizer(Exception):
    pass


def byte_level_pre_tokenizer(name):
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    if name == "smollm":
        digits = {"type": "Digits", "individual_digits": True}
        return {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    if name == "gpt-2":
        return byte_level
    raise UnsupportedTokenizer(f"tokenizer.ggml.pre is '{name}'; smollm and gpt-2 are known")


def added_tokens(tokens, types):
    """Control tokens are special; user-defined ones are text that is never split."""
    return [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": kind != USER_DEFINED}
            for i, (token, kind) in enumerate(zip(tokens, types)) if kind in (CONTROL, UNKNOWN, USER_DEFINED)]


def bpe(vocab, merges, **options):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            **options, "vocab": vocab, "merges": merges}


def assemble(added, model, normalizer, pre_tokenizer, post_processor, decoder):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": decoder, "model": model}


def byte_level(field):
    tokens = field("tokens")
    merges = [pair.split(" ") for pair in field("merges")]
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return assemble(added_tokens(tokens, field("token_type")), bpe({t: i for i, t in enumerate(tokens)}, merges),
                    None, byte_level_pre_tokenizer(field("pre")), None, decoder)


def merges_from_scores(vocab, ranked):
    """All pairs that make each piece, best piece first; pairs of one piece by the ids of their halves."""
    merges = []
    for piece in ranked:
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        pairs = [(a, b) for a, b in pairs if a in vocab and b in vocab]
        merges += sorted(pairs, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    return [list(pair) for pair in merges]


def sentence_piece(field):
    tokens, scores, types = field("tokens"), field("scores"), field("token_type")
    # GGUF shows user-defined runs of spaces as spaces; the vocabulary has them escaped. They are text to BPE, and
    # join before anything else.
    runs_of_spaces = [i for i, token in enumerate(tokens) if types[i] == USER_DEFINED and not token.strip(" ")]
    tokens = list(tokens)
    for i in runs_of_spaces:
        tokens[i] = SPACE * len(tokens[i])
    vocab = {token: i for i, token in enumerate(tokens)}
    normal = [i for i, kind in enumerate(types) if kind == NORMAL]
    ranked = [tokens[i] for i in runs_of_spaces] + [tokens[i] for i in sorted(normal, key=lambda i: (-scores[i], i))]
    bos_id = field("bos_token_id")
    bos = tokens[bos_id]
    begin = [{"SpecialToken": {"id": bos, "type_id": 0}}] if field("add_bos_token") else []
    template = {"type": "TemplateProcessing",
                "single": begin + [{"Sequence": {"id": "A", "type_id": 0}}],
                "pair": begin + [{"Sequence": {"id": "A", "type_id": 0}}]
                + [{"SpecialToken": {**b["SpecialToken"], "type_id": 1}} for b in begin]
                + [{"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}} if begin else {}}
    escape = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    decoder = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    model = bpe(vocab, merges_from_scores(vocab, ranked), unk_token=tokens[field("unknown_token_id")],
                fuse_unk=True, byte_fallback=True)
    return assemble(added_tokens(tokens, types), model, escape, split, template, decoder)


def tokenizer_json(field):
    """`field(name)` returns the value of the GGUF key tokenizer.ggml.<name>."""
    kind = field("model")
    if kind == "gpt2":
        return byte_level(field)
    if kind == "llama":
        if field("add_space_prefix"):
            raise UnsupportedTokenizer("tokenizer.ggml.add_space_prefix is true; only false is known")
        return sentence_piece(field)
    raise UnsupportedTokenizer(f"tokenizer.ggml.model is '{kind}'; gpt2 and llama are known")
