#!/usr/bin/python3
"""Converts a GGUF file to a Hugging Face folder: bfloat16 safetensors, config and tokenizer.

    convert_gguf.py --sha256 DIGEST --title NAME --licence FILE [--notice TEXT] MODEL.gguf FOLDER

The weights are dequantised: they are close to the original ones and not equal to them, which the README.md
written beside them says. The same file gives the same bytes. FOLDER appears when it is complete, or not at all.
Families: llama and gemma3 (text). Needs the packages gguf and numpy.
"""
import argparse
import hashlib
import json
import pathlib
import re
import shutil
import struct
import sys
import tempfile

import numpy
from gguf import GGUFReader
from gguf.quants import dequantize

from gguf_tokenizer import UnsupportedTokenizer, tokenizer_json

BLOCK_TENSORS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
FAMILY_TENSORS = {
    "llama": {"ffn_norm": "post_attention_layernorm"},
    "gemma3": {"ffn_norm": "pre_feedforward_layernorm", "post_attention_norm": "post_attention_layernorm",
               "post_ffw_norm": "post_feedforward_layernorm", "attn_q_norm": "self_attn.q_norm",
               "attn_k_norm": "self_attn.k_norm"}}
OTHER_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


class Gguf:
    """The keys and tensors of one file, by name."""

    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.family = self.key("general.architecture")
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}

    def key(self, name, default=None):
        field = self.reader.get_field(name)
        if field is None and default is None:
            sys.exit(f"convert_gguf: the key {name} is missing")
        value = default if field is None else field.contents()
        # Keys are float32: the shortest decimal that means the same float32 is what the original config says.
        return float(str(numpy.float32(value))) if isinstance(value, float) else value

    def model(self, name, default=None):
        return self.key(f"{self.family}.{name}", default)

    def token(self, name):
        return self.key(f"tokenizer.ggml.{name}")


def hf_name(gguf, name):
    stem = name.removesuffix(".weight")
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    table = BLOCK_TENSORS | FAMILY_TENSORS[gguf.family]
    if block and block[2] in table:
        return f"model.layers.{block[1]}.{table[block[2]]}.weight"
    if stem in OTHER_TENSORS:
        return f"{OTHER_TENSORS[stem]}.weight"
    sys.exit(f"convert_gguf: unknown tensor {name} for the family {gguf.family}")


def weights(gguf, name):
    """One tensor as float32, in Hugging Face's order and offset."""
    tensor = gguf.tensors[name]
    values = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
    values = values.reshape([int(n) for n in reversed(tensor.shape)])
    if gguf.family == "llama" and re.search(r"attn_[qk]\.", name):
        # GGUF keeps the two halves of a rotary pair side by side; Hugging Face keeps them half a head apart.
        heads = gguf.model("attention.head_count" if "attn_q" in name else "attention.head_count_kv")
        half = values.shape[0] // heads // 2
        values = values.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(values.shape)
    if gguf.family == "gemma3" and "norm" in name:
        values = values - 1  # Hugging Face multiplies by 1 + w, GGUF by w
    return values


def to_bfloat16(values):
    """Rounds to nearest, ties to even."""
    bits = numpy.ascontiguousarray(values).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_safetensors(gguf, path):
    names = {hf_name(gguf, name): name for name in gguf.tensors}
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(names):
        shape = [int(n) for n in reversed(gguf.tensors[names[name]].shape)]
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(names):
            out.write(to_bfloat16(weights(gguf, names[name])).tobytes())


def common_config(gguf):
    return {
        "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": gguf.token("bos_token_id"), "eos_token_id": gguf.token("eos_token_id"),
        "hidden_size": gguf.model("embedding_length"), "initializer_range": 0.02,
        "intermediate_size": gguf.model("feed_forward_length"),
        "max_position_embeddings": gguf.model("context_length"),
        "num_attention_heads": gguf.model("attention.head_count"), "num_hidden_layers": gguf.model("block_count"),
        "num_key_value_heads": gguf.model("attention.head_count_kv"),
        "pad_token_id": gguf.token("padding_token_id"),
        "rms_norm_eps": gguf.model("attention.layer_norm_rms_epsilon"),
        "rope_scaling": None, "rope_theta": gguf.model("rope.freq_base"),
        "tie_word_embeddings": "output.weight" not in gguf.tensors, "torch_dtype": "bfloat16", "use_cache": True,
        "vocab_size": int(gguf.tensors["token_embd.weight"].shape[1])}


def llama_config(gguf):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **common_config(gguf),
            "hidden_act": "silu", "mlp_bias": False, "pretraining_tp": 1}


def gemma3_config(gguf):
    layers = gguf.model("block_count")
    if layers > 48:
        sys.exit("convert_gguf: the 27B model scales its queries differently, which the file does not say")
    kinds = ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(layers)]
    # What the file does not say is the same for every Gemma 3 of this size class.
    return {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", **common_config(gguf),
            "_sliding_window_pattern": 6, "attn_logit_softcapping": None, "final_logit_softcapping": None,
            "head_dim": gguf.model("attention.key_length"), "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": kinds, "query_pre_attn_scalar": gguf.model("attention.key_length"),
            "rope_local_base_freq": 10000.0, "sliding_window": gguf.model("attention.sliding_window"),
            "use_bidirectional_attention": False}


def tokenizer_config(gguf):
    tokens = gguf.token("tokens")
    config = {f"{name}_token": tokens[gguf.token(f"{key}_token_id")]
              for name, key in [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")]}
    config |= {"add_bos_token": gguf.token("add_bos_token"), "add_prefix_space": False,
               "clean_up_tokenization_spaces": False, "model_max_length": gguf.model("context_length"),
               "tokenizer_class": "PreTrainedTokenizerFast"}
    template = gguf.key("tokenizer.chat_template", "")
    return config | ({"chat_template": template} if template else {})


def readme(gguf, options, quantisation):
    licence = gguf.key("general.license", "")
    front = f"---\nlicense: {licence}\n---\n" if licence else ""
    notice = f"\n{options.notice}\n" if options.notice else ""
    return f"""{front}# {options.title}

Converted from the GGUF file with SHA-256 `{options.sha256}`
(quantised as {quantisation}).

The weights here were **dequantised**: they are not the original weights, and results differ slightly from
the original model's.
{notice}"""


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def convert(options, folder):
    gguf = Gguf(options.gguf)
    if gguf.family not in FAMILY_TENSORS:
        sys.exit(f"convert_gguf: the family is '{gguf.family}'; {' and '.join(FAMILY_TENSORS)} are known")
    config = {"llama": llama_config, "gemma3": gemma3_config}[gguf.family](gguf)
    write_json(folder / "config.json", config)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", ids)
    try:
        tokenizer = tokenizer_json(gguf.token)
    except UnsupportedTokenizer as error:
        sys.exit(f"convert_gguf: {error}")
    write_json(folder / "tokenizer.json", tokenizer)
    settings = tokenizer_config(gguf)
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "special_tokens_map.json", {k: v for k, v in settings.items() if k.endswith("_token")
                                                    and isinstance(v, str)})
    for licence in options.licence:
        shutil.copyfile(licence, folder / licence.name)
    kinds = sorted({tensor.tensor_type.name for tensor in gguf.tensors.values()} - {"F32"})
    (folder / "README.md").write_text(readme(gguf, options, ", ".join(kinds)), encoding="utf-8")
    if options.notice:
        (folder / "NOTICE").write_text(f"{options.title}\n\n{options.notice}\n", encoding="utf-8")
    write_safetensors(gguf, folder / "model.safetensors")


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sha256", required=True, help="of the GGUF file")
    parser.add_argument("--title", required=True)
    parser.add_argument("--licence", required=True, action="append", type=pathlib.Path, help="file to copy")
    parser.add_argument("--notice", default="", help="who made it and its terms: for README.md and NOTICE")
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    found = sha256(options.gguf)
    if found != options.sha256:
        sys.exit(f"convert_gguf: {options.gguf} has SHA-256 {found}, expected {options.sha256}: fetch it again")
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder.parent, prefix=".convert-") as scratch:
        made = pathlib.Path(scratch, options.folder.name)
        made.mkdir()
        convert(options, made)
        shutil.rmtree(options.folder, ignore_errors=True)
        made.rename(options.folder)
    print(f"    model.safetensors sha256 {sha256(options.folder / 'model.safetensors')}")


if __name__ == "__main__":
    main()
