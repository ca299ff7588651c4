"""What Transformers makes of a model folder, for logits_parity_test.cc.

usage: logits_reference.py FOLDER REQUEST.json OUT.safetensors

REQUEST.json  {"sequences": [[id, ...], ...]} or {"texts": ["...", ...]} with "max_tokens"; texts are
              tokenized without automatic special tokens behind "first_token". "stride": every
              stride-th position is kept, counted from the last one.
OUT           float32, eager attention loaded and computed in float32 like SDPA's:
              ids.I     the ids of sequence I
              logits.I  [kept positions, vocabulary], SDPA attention
              eager.I   [1], largest difference of eager attention's logits from those
              metadata "shapes": JSON, name to shape of every parameter that Transformers has
"""

import json
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder, attention):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            sys.exit(f"{folder}: {kind}: {info[kind]}")
    return model.eval()


def read_sequences(folder, request):
    if "sequences" in request:
        return request["sequences"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [
        ([request["first_token"]] + tokenizer(text, add_special_tokens=False)["input_ids"])
        [: request["max_tokens"]]
        for text in request["texts"]
    ]


def kept_logits(model, ids, stride):
    hidden = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    return model.lm_head(hidden.flip(0)[::stride].flip(0))


def main():
    folder, request_path, out_path = sys.argv[1:]
    with open(request_path, encoding="utf-8") as file:
        request = json.load(file)
    sequences = read_sequences(folder, request)
    stride = request.get("stride", 1)
    tensors = {}
    with torch.inference_mode():
        model = load(folder, "sdpa")
        shapes = {name: list(value.shape) for name, value in model.named_parameters()}
        for i, ids in enumerate(sequences):
            tensors[f"ids.{i}"] = torch.tensor(ids, dtype=torch.int64)
            tensors[f"logits.{i}"] = kept_logits(model, ids, stride)
        model = load(folder, "eager")
        for i, ids in enumerate(sequences):
            difference = kept_logits(model, ids, stride) - tensors[f"logits.{i}"]
            tensors[f"eager.{i}"] = difference.abs().max().reshape(1)
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, out_path,
              metadata={"shapes": json.dumps(shapes)})


if __name__ == "__main__":
    main()
