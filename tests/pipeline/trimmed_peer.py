"""Stock Transformers' side of trimmed_in_transformers_test.cc.

  trimmed_peer.py TEXT BASE EXPERT [BASE EXPERT ...]

Loads each BASE and its EXPERT of the same layers and a trimmed vocabulary, as any user would. Both cut TEXT, which the
vocabulary was trimmed to, into the same tokens, and give them the same logits in the rows that stay. Which rows those
are is found from the tokens' names alone.
"""
import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "artifact"))
from transformers_peer import load  # noqa: E402

# Nothing in it was in any corpus.
OTHER_TEXT = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich: 98.7 % 猫"


def expect_equal(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what} is {found}, not {wanted}")


def logits_of(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0]


def base_rows(base, expert, count):
    """The base's row of each row of the expert."""
    ids = base.get_vocab()
    names = {row: token for token, row in expert.get_vocab().items()}
    expect_equal("the set of the expert's token ids", sorted(names), list(range(count)))
    return [ids[names[row]] for row in range(count)]


def check(text, base_folder, expert_folder):
    base, base_tokenizer = load(base_folder)
    expert, tokenizer = load(expert_folder)
    count = expert.config.vocab_size
    if count >= base.config.vocab_size:
        sys.exit(f"{expert_folder} has all {count} rows")
    for matrix in (expert.get_input_embeddings(), expert.get_output_embeddings()):
        expect_equal("the number of rows", matrix.weight.shape[0], count)
    rows = base_rows(base_tokenizer, tokenizer, count)

    for name in ("bos_token_id", "eos_token_id"):
        for found, wanted in ((expert.config, base.config), (expert.generation_config, base.generation_config),
                              (tokenizer, base_tokenizer)):
            if getattr(wanted, name) is not None:
                expect_equal(name, rows[getattr(found, name)], getattr(wanted, name))
    ids = tokenizer(text)["input_ids"]
    expect_equal("the text's tokens", [rows[i] for i in ids], base_tokenizer(text)["input_ids"])
    other = tokenizer(OTHER_TEXT, add_special_tokens=False)["input_ids"]
    expect_equal("the other text", tokenizer.decode(other), OTHER_TEXT)

    for found in (ids, other):
        wanted = logits_of(base, [rows[i] for i in found])[:, rows]
        difference = ((logits_of(expert, found) - wanted).abs().max() / wanted.abs().max()).item()
        if not difference <= 1e-5:
            sys.exit(f"{expert_folder}: logits differ by {difference} of the largest")
    print(f"{len(ids)} tokens, {count} of {base.config.vocab_size} rows")


def main(text, *folders):
    for base, expert in zip(folders[::2], folders[1::2]):
        check(text, base, expert)


if __name__ == "__main__":
    main(*sys.argv[1:])
