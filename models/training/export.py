"""The trained network as a FunASR model directory: what `funasr.AutoModel(model=DIR)` and Warmline load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from warmline.emotion.architecture import Architecture, Emotion2Vec
from warmline.emotion.layout import funasr_names

TOKENS = (
    "生气/angry",
    "厌恶/disgusted",
    "恐惧/fearful",
    "开心/happy",
    "中立/neutral",
    "其他/other",
    "难过/sad",
    "吃惊/surprised",
    "<unk>",
)

CONFIGURATION = {
    "framework": "pytorch",
    "task": "emotion-recognition",
    "model": {"type": "funasr"},
    "pipeline": {"type": "funasr-pipeline"},
    "file_path_metas": {
        "init_param": "model.pt",
        "tokenizer_conf": {"token_list": "tokens.txt"},
        "config": "config.yaml",
    },
}


def write_directory(model: Emotion2Vec, directory: Path) -> None:
    """Writes config.yaml, configuration.json, tokens.txt and model.pt (tensors only, FunASR's names, fp32)."""
    directory.mkdir(parents=True, exist_ok=True)
    names = funasr_names(model.architecture)
    state = {names[ours]: tensor.detach().clone().contiguous() for ours, tensor in model.state_dict().items()}
    torch.save(state, directory / "model.pt")
    (directory / "tokens.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    (directory / "configuration.json").write_text(json.dumps(CONFIGURATION, indent=2) + "\n", encoding="utf-8")
    config = funasr_config(model.architecture)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (directory / "config.yaml").write_text(text, encoding="utf-8")


def funasr_config(architecture: Architecture) -> dict[str, Any]:
    """config.yaml: every key that FunASR's Emotion2vec reads, training ones at their neutral values."""
    layers = [(layer.channels, layer.kernel, layer.stride) for layer in architecture.conv_layers]
    audio = {
        "type": "AUDIO",
        "prenet_depth": architecture.prenet_depth,
        "prenet_layerdrop": 0.0,
        "prenet_dropout": 0.0,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "num_extra_tokens": architecture.extra_tokens,
        "init_extra_token_zero": True,
        "local_grad_mult": 1.0,
        "use_alibi_encoder": architecture.alibi_heads > 0,
        "alibi_scale": 1.0,
        "learned_alibi": False,
        "alibi_max_pos": None,
        "learned_alibi_scale": True,
        "learned_alibi_scale_per_head": architecture.alibi_scale_per_head,
        "learned_alibi_scale_per_layer": False,
        "num_alibi_heads": max(1, architecture.alibi_heads),
        "model_depth": architecture.depth,
        "decoder": None,
        "extractor_mode": "layer_norm",
        "feature_encoder_spec": str(layers),
        "conv_pos_width": architecture.conv_pos_width,
        "conv_pos_groups": architecture.conv_pos_groups,
        "conv_pos_depth": architecture.conv_pos_depth,
        "conv_pos_pre_ln": False,
    }
    return {
        "model": "Emotion2vec",
        "model_conf": {
            "depth": architecture.depth,
            "start_drop_path_rate": 0.0,
            "end_drop_path_rate": 0.0,
            "num_heads": architecture.num_heads,
            "norm_eps": architecture.norm_eps,
            "norm_affine": True,
            "encoder_dropout": 0.0,
            "post_mlp_drop": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "dropout_input": 0.0,
            "layerdrop": 0.0,
            "embed_dim": architecture.embed_dim,
            "mlp_ratio": architecture.mlp_ratio,
            "layer_norm_first": False,
            "end_of_block_targets": False,
            "normalize": architecture.normalize,
            "modalities": {"audio": audio},
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }
