"""FunASR's config.yaml: its numbers as an `Architecture`, or an error that names the key we cannot follow.

Nothing in the file is evaluated: YAML is read with the safe loader, and `feature_encoder_spec`, which FunASR
hands to Python's `eval`, with a parser that knows lists of triples, + and *.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from warmline.emotion.architecture import Architecture, ConvLayer
from warmline.jobs.errors import ModelUnusable

CONFIG_FILE = "config.yaml"
MAX_CONFIG_BYTES = 1024**2
MAX_SPEC_CHARACTERS = 500
MAX_CONV_LAYERS = 64

log = structlog.get_logger()

# Keys that shape training or FunASR's own bookkeeping and leave inference as it is. Any other key that is
# not a field below is ignored too, since FunASR's inference reads none, but said in the log.
TRAINING_ONLY = frozenset({
    "activation_dropout", "add_masks", "adversarial_hidden_dim", "adversarial_training", "adversarial_weight",
    "alibi_max_pos", "alibi_scale", "attention_dropout", "average_top_k_layers", "batch_norm_target_layer",
    "clone_batch", "cls_loss", "cls_type", "d2v_loss", "decoder", "decoder_group", "dropout_input",
    "ema_anneal_end_step", "ema_decay", "ema_encoder_only", "ema_end_decay", "ema_local_encoder",
    "ema_same_dtype", "encoder_dropout", "encoder_zero_mask", "end_drop_path_rate", "end_of_block_targets",
    "extractor_mode",
    "init_extra_token_zero", "instance_norm_target_layer", "instance_norm_targets", "inverse_mask",
    "keep_masked_pct", "layer_norm_target_layer", "layer_norm_targets", "layerdrop", "learned_alibi_scale",
    "local_grad_mult", "log_norms", "loss_beta", "loss_scale", "mae_init", "mask_channel_length",
    "mask_channel_prob", "mask_dropout", "mask_length", "mask_noise_std", "mask_prob", "mask_prob_adjust",
    "mask_prob_min", "max_update", "min_pred_var", "min_target_var", "model_depth", "post_mlp_drop",
    "prenet_dropout", "prenet_layerdrop", "project_dim", "recon_loss", "remove_masks", "seed",
    "shared_decoder", "skip_ema", "start_drop_path_rate", "supported_modality",
})  # fmt: skip

Off = Literal[False, None]
Depth = Annotated[int, Field(ge=0, le=256)]


class _Section(BaseModel):
    """A part of config.yaml. Numbers may be written as text: YAML 1.1 takes 1e-05 for a string."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def ignored(self) -> set[str]:
        """Keys that are neither followed nor known to be for training only."""
        return set(self.model_extra or {}) - TRAINING_ONLY


class _Audio(_Section):
    type: Literal["AUDIO"] = "AUDIO"
    prenet_depth: Depth
    num_extra_tokens: int = Field(ge=0, le=4096)
    use_alibi_encoder: bool
    num_alibi_heads: int = Field(1, ge=1, le=1024)
    learned_alibi: Off = None
    learned_alibi_scale_per_head: bool = False
    learned_alibi_scale_per_layer: Off = None
    extractor_mode: Literal["layer_norm"]  # the other mode norms over time, where padding would tell
    feature_encoder_spec: str
    conv_pos_width: int = Field(ge=1, le=4096)
    conv_pos_groups: int = Field(ge=1, le=16_384)
    conv_pos_depth: int = Field(ge=1, le=64)
    conv_pos_pre_ln: Off = None

    @field_validator("feature_encoder_spec")
    @classmethod
    def _parsable(cls, spec: str) -> str:
        parse_feature_encoder_spec(spec)
        return spec


class _Modalities(_Section):
    audio: _Audio


class _ModelConf(_Section):
    depth: Depth
    embed_dim: int = Field(ge=1, le=16_384)
    num_heads: int = Field(ge=1, le=1024)
    mlp_ratio: float = Field(gt=0, le=64, allow_inf_nan=False)
    norm_eps: float = Field(gt=0, lt=1, allow_inf_nan=False)
    norm_affine: Literal[True]
    normalize: bool
    layer_norm_first: Off = None
    modalities: _Modalities

    @model_validator(mode="after")
    def _divisible(self) -> _ModelConf:
        audio = self.modalities.audio
        if self.embed_dim % self.num_heads:
            raise ValueError("embed_dim is not a multiple of num_heads")
        if self.embed_dim % audio.conv_pos_groups:
            raise ValueError("embed_dim is not a multiple of modalities.audio.conv_pos_groups")
        if audio.use_alibi_encoder and audio.num_alibi_heads > self.num_heads:
            raise ValueError("modalities.audio.num_alibi_heads is more than num_heads")
        if self.depth + audio.prenet_depth == 0:
            raise ValueError("depth and modalities.audio.prenet_depth are both 0")
        return self


class _Config(_Section):
    """The whole file. Other top-level keys (tokenizer, datasets, optimiser) do not reach the model."""

    model: Literal["Emotion2vec"]
    model_conf: _ModelConf
    scope_map: tuple[str, ...] = ()
    excludes: Off = None

    @field_validator("scope_map", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        """A list, or the same as text with commas: from, to, from, to; "none" is the empty prefix."""
        parts = value.split(",") if isinstance(value, str) else value or ()
        if len(parts) % 2:
            raise ValueError("should be pairs of prefixes")
        return tuple("" if str(part).lower() == "none" else str(part) for part in parts)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What config.yaml says of the model and of the names in its checkpoint."""

    architecture: Architecture
    scopes: tuple[tuple[str, str], ...] = ()  # (prefix in the checkpoint, prefix in the model)


def read_configuration(directory: Path, *, labels: int) -> Configuration:
    """Reads config.yaml of a FunASR model directory whose head has so many labels.

    Raises ModelUnusable, which names the key, where the file asks for what Warmline does not do.
    """
    path = directory / CONFIG_FILE
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelUnusable(f"{path} is larger than 1 MiB, which no FunASR configuration is.")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnusable(f"{path} is not YAML that can be read safely: {_first_line(error)}.") from None
    try:
        config = _Config.model_validate(values)
    except ValidationError as error:
        raise ModelUnusable(f"{path} asks for what Warmline does not do: {_describe(error)}.") from None
    conf, audio = config.model_conf, config.model_conf.modalities.audio
    if ignored := sorted(conf.ignored() | audio.ignored()):
        log.warning("config_keys_ignored", path=str(path), keys=ignored)
    scopes = tuple(zip(config.scope_map[0::2], config.scope_map[1::2], strict=True))
    return Configuration(architecture=_architecture(conf, audio, labels), scopes=scopes)


def _architecture(conf: _ModelConf, audio: _Audio, labels: int) -> Architecture:
    return Architecture(
        embed_dim=conf.embed_dim,
        prenet_depth=audio.prenet_depth,
        depth=conf.depth,
        num_heads=conf.num_heads,
        labels=labels,
        conv_layers=parse_feature_encoder_spec(audio.feature_encoder_spec),
        mlp_ratio=conf.mlp_ratio,
        conv_pos_width=audio.conv_pos_width,
        conv_pos_groups=audio.conv_pos_groups,
        conv_pos_depth=audio.conv_pos_depth,
        extra_tokens=audio.num_extra_tokens,
        alibi_heads=audio.num_alibi_heads if audio.use_alibi_encoder else 0,
        alibi_scale_per_head=audio.learned_alibi_scale_per_head,
        norm_eps=conf.norm_eps,
        normalize=conf.normalize,
    )


def parse_feature_encoder_spec(spec: str) -> tuple[ConvLayer, ...]:
    """`[(512, 10, 5)] + [(512, 3, 2)] * 4` as layers. Raises ValueError for anything but such lists."""
    if len(spec) > MAX_SPEC_CHARACTERS:
        raise ValueError(f"should have at most {MAX_SPEC_CHARACTERS} characters")
    try:
        triples = _evaluate(ast.parse(spec.strip(), mode="eval").body)
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError("should be lists of (channels, kernel, stride), joined by + and repeated by *") from None
    if not triples:
        raise ValueError("should hold at least one layer")
    return tuple(ConvLayer(*triple) for triple in triples)


def _evaluate(node: ast.expr) -> list[tuple[int, int, int]]:
    match node:
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            triples = [_triple(element) for element in elements]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            triples = _evaluate(left) + _evaluate(right)
        case (
            ast.BinOp(left=repeated, op=ast.Mult(), right=ast.Constant(value=int(times)))
            | ast.BinOp(left=ast.Constant(value=int(times)), op=ast.Mult(), right=repeated)
        ):
            triples = _evaluate(repeated) * min(times, MAX_CONV_LAYERS + 1)
        case _:
            raise ValueError("should be lists of (channels, kernel, stride), joined by + and repeated by *")
    if len(triples) > MAX_CONV_LAYERS:
        raise ValueError(f"should have at most {MAX_CONV_LAYERS} layers")
    return triples


def _triple(node: ast.expr) -> tuple[int, int, int]:
    match node:
        case ast.Tuple(
            elts=[
                ast.Constant(value=int(channels)),
                ast.Constant(value=int(kernel)),
                ast.Constant(value=int(stride)),
            ]
        ) if 1 <= channels <= 16_384 and 1 <= kernel <= 1024 and 1 <= stride <= 1024:
            return channels, kernel, stride
    raise ValueError("should hold triples of positive numbers: (channels, kernel, stride)")


def _describe(error: ValidationError) -> str:
    """Each key that was refused, and why."""
    parts = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "the file"
        reason = problem["msg"].removeprefix("Value error, ")
        # Only plain values are shown: YAML's aliases can make a small list print as gigabytes.
        plain = isinstance(problem["input"], str | int | float | None)
        given = f" (it is {str(problem['input'])[:60]!r})" if plain else ""
        parts.append(f"{key}: {reason[:1].lower()}{reason[1:]}{given}")
    return "; ".join(parts)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
