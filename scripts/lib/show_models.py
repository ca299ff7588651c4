#!/usr/bin/env python3
"""Loads Hugging Face folders with stock Transformers, without remote code, and lets each answer two questions.

    show_models.py FOLDER [FOLDER ...]

A warning while loading is an error. Computes in float32, as the server does on a CPU.
"""
import pathlib
import sys
import warnings

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

QUESTIONS = ["What is a fever, and when should I see a doctor?",
             "Anna has 3 boxes with 12 pencils each and gives 8 away. How many are left?"]


def main():
    torch.manual_seed(0)
    logging.disable_progress_bar()
    for folder in map(pathlib.Path, sys.argv[1:]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        parameters = sum(p.numel() for p in model.parameters())
        print(f"\n{folder.name}: {parameters / 1e6:.1f} M parameters, "
              f"{model.config.intermediate_size} FFN neurons a layer")
        for question in QUESTIONS:
            chat = tokenizer.apply_chat_template([{"role": "user", "content": question}],
                                                 add_generation_prompt=True, return_tensors="pt",
                                                 return_dict=True)
            answer = model.generate(**chat, max_new_tokens=40, do_sample=False)
            text = tokenizer.decode(answer[0, chat["input_ids"].shape[1]:], skip_special_tokens=True)
            print(f"  {question}\n    {' '.join(text.split())}")


if __name__ == "__main__":
    main()
