#!/usr/bin/env python3
"""Makes pruned Hugging Face folders by the published training-free methods, to compare with at equal size.

    baselines.py --method wanda-sp --ratio 0.35 --calib en-medical-qa,en-general-qa MODEL OUT

Methods (units: FFN neurons, same count in every layer; calibration text from --data, by default
the folder "profile" of $SECATEUR_TEST_DATA):
  random      seeded permutation                                  magnitude   ||down column||
  wanda-sp    mean |down column| * rms activation (Wanda, structured as in FLAP's repository)
  flap        variance of the activation * ||down column||^2, bias compensation where the family has an MLP bias
  shortgpt    whole layers by block influence; --ratio is the share of *FFN parameters* to match, so that sizes are equal
  obs         second order: iterative ||w||^2/[G^-1]_kk with least-squares update (OSSCAR / SlimGPT kind), 16 rounds
Any gated-FFN family of Transformers whose layers are model.model.layers[i].mlp.{gate,up,down}_proj. Float32 on CPU.
"""
import argparse, json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluate import data_folder, first_token, load_docs

METHODS = "random magnitude wanda-sp flap shortgpt obs".split()  # flap-global's widths differ, which no config can say
WITHOUT_TEXT = ("random", "magnitude")


def calibration(tok, texts, tokens):
    """Framed ids of each text, the first token included at most `tokens`."""
    return [[first_token(tok)] + tok(t, add_special_tokens=False)["input_ids"][: tokens - 1] for t in texts]


def kept_width(m, ratio, multiple):
    """FFN neurons that stay of `m`: the nearest multiple."""
    return round(m * (1 - ratio) / multiple) * multiple


@torch.inference_mode()
def collect(model, texts, gram):
    """Per layer: sum of a, of a^2, optionally a a^T over all tokens, and block influence.

    The first token carries the attention sink: leaving it out of the statistics ruins every method.
    Its a^2 is also kept apart (a2_first), so that a ridge can be scaled by ordinary tokens.
    """
    layers = model.model.layers
    m = model.config.intermediate_size
    zero = lambda *s: torch.zeros(*s, dtype=torch.float64)
    stats = [dict(n=0, a=zero(m), a2=zero(m), a2_first=zero(m), bi=0.0, g=torch.zeros(m, m) if gram else None) for _ in layers]
    handles = []
    for s, layer in zip(stats, layers):
        def pre(_, args, s=s):
            a = args[0][0]
            s["n"] += a.shape[0]
            s["a"] += a.sum(0)
            s["a2"] += a.square().sum(0)
            s["a2_first"] += a[0].square()
            if gram:
                s["g"].addmm_(a.T, a)
        def block(_, args, out, s=s):
            h = out[0] if isinstance(out, tuple) else out
            s["bi"] += float((1 - torch.cosine_similarity(args[0][0, 1:], h[0, 1:], dim=-1)).sum())
        handles += [layer.mlp.down_proj.register_forward_pre_hook(pre), layer.register_forward_hook(block)]
    for ids in texts:
        model.model(input_ids=torch.tensor([ids]), use_cache=False)
    for h in handles:
        h.remove()
    return stats


def random_scores(w, s, rng):
    return torch.rand(w.shape[1], generator=rng)


def magnitude(w, s, rng):
    return w.norm(dim=0)


def wanda_sp(w, s, rng):
    return w.abs().mean(0) * (s["a2"] / s["n"]).sqrt().float()


def flap(w, s, rng):
    mean = s["a"] / s["n"]
    return (s["a2"] / s["n"] - mean.square()).clamp(min=0).float() * w.square().sum(0)


SCORES = {"random": random_scores, "magnitude": magnitude, "wanda-sp": wanda_sp, "flap": flap}


def obs(w, s, keep, rounds=16, ridge=1e-1):
    m = w.shape[1]
    a = s["g"].double() / s["n"]
    a.diagonal().add_(ridge * ((s["a2"] - s["a2_first"]) / s["n"]).mean())
    inv, w, idx = torch.cholesky_inverse(torch.linalg.cholesky(a)), w.double().clone(), torch.arange(m)
    for r in range(rounds):
        count = ((m - keep) * (r + 1)) // rounds - ((m - keep) * r) // rounds
        order = (w.square().sum(0) / inv.diagonal()).argsort()
        gone, stay = order[:count], order[count:].sort().values
        x = torch.linalg.solve(inv[gone][:, gone], inv[gone][:, stay])
        w, inv, idx = w[:, stay] - w[:, gone] @ x, inv[stay][:, stay] - inv[stay][:, gone] @ x, idx[stay]
    return idx, w.float()


def prune_layers(model, keep, stats):
    """ShortGPT: drops the layers of least block influence, as many as come to the size of `keep` neurons a layer."""
    cfg, layers = model.config, model.model.layers
    per_layer = sum(p.numel() for p in layers[0].parameters())
    drop = round(len(layers) * 3 * cfg.hidden_size * (cfg.intermediate_size - keep) / per_layer)
    order = sorted(range(len(layers)), key=lambda i: stats[i]["bi"] / stats[i]["n"])
    gone = set(order[:drop])
    model.model.layers = torch.nn.ModuleList(l for i, l in enumerate(layers) if i not in gone)
    cfg.num_hidden_layers = len(layers) - drop
    if getattr(cfg, "layer_types", None):
        cfg.layer_types = [t for i, t in enumerate(cfg.layer_types) if i not in gone]


def replace_ffn(mlp, kept, down, bias):
    """The FFN with the `kept` neurons alone and the down columns given."""
    for name, value in (("gate_proj", mlp.gate_proj.weight[kept]), ("up_proj", mlp.up_proj.weight[kept]), ("down_proj", down)):
        lin = torch.nn.Linear(value.shape[1], value.shape[0], bias=bias)
        lin.weight.copy_(value)
        if bias:
            lin.bias.zero_()
        setattr(mlp, name, lin)


def prune_neurons(model, method, keep, stats, seed):
    cfg = model.config
    rng = torch.Generator().manual_seed(seed)
    bias = method == "flap" and getattr(cfg, "mlp_bias", None) is not None
    for i, layer in enumerate(model.model.layers):
        w, s = layer.mlp.down_proj.weight, stats[i] if stats else None
        if method == "obs":
            kept, down = obs(w, s, keep)
        else:
            kept = torch.topk(SCORES[method](w, s, rng), keep).indices.sort().values
            down = w[:, kept]
        replace_ffn(layer.mlp, kept, down, bias)
        if bias:
            cut = torch.ones(w.shape[1], dtype=torch.bool)
            cut[kept] = False
            layer.mlp.down_proj.bias.copy_(w[:, cut] @ (s["a"] / s["n"]).float()[cut])
    cfg.intermediate_size = keep
    if bias:
        cfg.mlp_bias = True


@torch.inference_mode()
def prune_globally(model, keep, stats):
    """FLAP with widths by layer: its scores, standardised in each layer, compete over all layers for the neurons of `keep`
    a layer, as the paper has it (its attention left alone). The bias as in prune_neurons()."""
    layers = model.model.layers
    bias = getattr(model.config, "mlp_bias", None) is not None
    scores = torch.stack([flap(layer.mlp.down_proj.weight, s, None) for layer, s in zip(layers, stats)])
    scores = (scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True)
    stays = torch.zeros(scores.numel(), dtype=torch.bool)
    stays[scores.flatten().topk(keep * len(layers)).indices] = True
    for layer, s, stay in zip(layers, stats, stays.view_as(scores)):
        w = layer.mlp.down_proj.weight
        replace_ffn(layer.mlp, stay, w[:, stay], bias)
        if bias:
            layer.mlp.down_proj.bias.copy_(w[:, ~stay] @ (s["a"] / s["n"]).float()[~stay])


@torch.inference_mode()
def prune(model, method, keep, stats=None, seed=0):
    """Prunes the model in place to `keep` FFN neurons a layer, or to as many parameters by whole layers.

    `stats` are those of collect(), with the Gram matrices for obs; not needed for methods WITHOUT_TEXT.
    """
    if method == "shortgpt":
        prune_layers(model, keep, stats)
    else:
        prune_neurons(model, method, keep, stats, seed)


def code_of(method):
    """The functions that decide what `method` makes."""
    collected = [] if method in WITHOUT_TEXT else [calibration, first_token, collect]
    if method == "shortgpt":
        return collected + [prune, prune_layers]
    if method == "flap-global":
        return collected + [prune_globally, replace_ffn, flap]
    return collected + [prune, prune_neurons, replace_ffn, obs if method == "obs" else SCORES[method]]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@torch.inference_mode()
def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("out")
    ap.add_argument("--method", required=True, choices=METHODS)
    ap.add_argument("--ratio", type=float, required=True, help="share of FFN neurons removed")
    ap.add_argument("--data", help="folder of the cells; default: profile of $SECATEUR_TEST_DATA")
    ap.add_argument("--calib", default="en-general-qa", help="cells of the data, comma separated")
    ap.add_argument("--docs", type=int, default=48)
    ap.add_argument("--tokens", type=int, default=256)
    ap.add_argument("--multiple", type=int, default=32, help="kept width is a multiple of this")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    tok = AutoTokenizer.from_pretrained(a.model)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    cfg = model.config
    stats = None
    if a.method not in WITHOUT_TEXT:
        data = data_folder(a.data, "profile")
        docs = [d["text"] for c in a.calib.split(",") for d in load_docs(data / f"{c}.jsonl", a.docs)]
        stats = collect(model, calibration(tok, docs, a.tokens), a.method == "obs")
    before = parameters(model)
    prune(model, a.method, kept_width(cfg.intermediate_size, a.ratio, a.multiple), stats, a.seed)
    after = parameters(model)
    model.to(torch.bfloat16).save_pretrained(a.out)
    tok.save_pretrained(a.out)
    print(json.dumps(dict(method=a.method, ratio=a.ratio, width=cfg.intermediate_size, layers=cfg.num_hidden_layers,
                          params=after, removed=round(1 - after / before, 4), calib=a.calib)))


if __name__ == "__main__":
    main()
