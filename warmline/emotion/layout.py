"""FunASR's model directories: what their files say, in our words."""

from __future__ import annotations

from warmline.emotion.architecture import Architecture


def funasr_names(architecture: Architecture) -> dict[str, str]:
    """Each parameter's name in `Emotion2Vec` -> its name in the state dict of FunASR's model.pt."""
    audio = "modality_encoders.AUDIO."
    modules = {
        "frontend.norm": f"{audio}project_features.1",
        "frontend.projection": f"{audio}project_features.2",
        "norm": f"{audio}context_encoder.norm",
        "head": "proj",
    }
    for layer in range(architecture.conv_pos_depth):
        modules[f"positions.convs.{layer}"] = f"{audio}relative_positional_encoder.{layer + 1}.0"
    for layer in range(len(architecture.conv_layers)):
        modules[f"frontend.norms.{layer}"] = f"{audio}local_encoder.conv_layers.{layer}.2.1"
    for layer in range(architecture.prenet_depth + architecture.depth):
        after = layer - architecture.prenet_depth
        theirs = f"blocks.{after}" if after >= 0 else f"{audio}context_encoder.blocks.{layer}"
        modules |= {
            f"blocks.{layer}.attention.qkv": f"{theirs}.attn.qkv",
            f"blocks.{layer}.attention.out": f"{theirs}.attn.proj",
            f"blocks.{layer}.attention_norm": f"{theirs}.norm1",
            f"blocks.{layer}.mlp_in": f"{theirs}.mlp.fc1",
            f"blocks.{layer}.mlp_out": f"{theirs}.mlp.fc2",
            f"blocks.{layer}.mlp_norm": f"{theirs}.norm2",
        }
    names = {f"{ours}.{part}": f"{their}.{part}" for ours, their in modules.items() for part in ("weight", "bias")}
    for layer in range(len(architecture.conv_layers)):
        names[f"frontend.convs.{layer}.weight"] = f"{audio}local_encoder.conv_layers.{layer}.0.weight"
    if architecture.extra_tokens:
        names["extra_tokens"] = f"{audio}extra_tokens"
    if architecture.alibi_heads:
        names["alibi_scale"] = f"{audio}alibi_scale"
    return names
