"""Transformers' side of tokenizer_peer_test.cc: tokenizer_peer.py MODEL_FOLDER FILE_LIST OUTPUT

FILE_LIST names JSON Lines files, one a line. OUTPUT starts with the size of the vocabulary; then each
document, in order, is one line: the number of its tokens and the SHA-256 of their ids, of the byte
ranges they came from (both as 32-bit little-endian integers), and of the text they decode to.
"""

import hashlib
import itertools
import json
import sys

import numpy
from transformers import AutoTokenizer


def digest(integers):
    return hashlib.sha256(numpy.asarray(integers, dtype="<u4").tobytes()).hexdigest()


def describe(tokenizer, text):
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoding["input_ids"]
    byte_at = [0, *itertools.accumulate(len(c.encode()) for c in text)]
    offsets = [byte_at[place] for pair in encoding["offset_mapping"] for place in pair]
    decoded = tokenizer.decode(
        ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return len(ids), digest(ids), digest(offsets), hashlib.sha256(decoded.encode()).hexdigest()


def main(model, file_list, output):
    tokenizer = AutoTokenizer.from_pretrained(model)
    with open(file_list, encoding="utf-8") as names, open(output, "w", encoding="utf-8") as out:
        print(len(tokenizer), file=out)
        for name in names.read().splitlines():
            with open(name, encoding="utf-8", newline="\n") as file:
                for line in file:
                    print(*describe(tokenizer, json.loads(line)["text"]), file=out)


if __name__ == "__main__":
    main(*sys.argv[1:])
