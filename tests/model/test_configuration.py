"""config.yaml and tokens.txt are data: followed where we can, refused by name where not, never run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.model.random_checkpoints import DATA, change_config
from warmline.calls.report import STANDARD_LABELS as REPORT_LABELS
from warmline.emotion.architecture import ConvLayer
from warmline.emotion.configuration import parse_feature_encoder_spec, read_configuration
from warmline.emotion.labels import STANDARD_LABELS, read_labels
from warmline.jobs.errors import ModelUnusable


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copy(DATA / "large.yaml", tmp_path / "config.yaml")
    shutil.copy(DATA / "tokens.txt", tmp_path)
    return tmp_path


def test_the_large_models_numbers_are_read(directory: Path) -> None:
    architecture = read_configuration(directory, labels=9).architecture
    assert (architecture.embed_dim, architecture.prenet_depth, architecture.depth) == (1024, 8, 16)
    assert (architecture.num_heads, architecture.alibi_heads, architecture.extra_tokens) == (16, 16, 10)
    assert architecture.norm_eps == 1e-5  # YAML reads 1e-05 as text
    assert (architecture.conv_pos_kernel, architecture.conv_pos_depth) == (19, 5)
    assert (architecture.min_samples, architecture.stride_samples) == (400, 320)
    assert [architecture.frames(samples) for samples in (399, 400, 719, 720, 80_000)] == [0, 1, 1, 2, 249]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": "Paraformer"}, "model"),
        ({"layer_norm_first": "true"}, "model_conf.layer_norm_first"),
        ({"norm_affine": "false"}, "model_conf.norm_affine"),
        ({"norm_eps": ".nan"}, "model_conf.norm_eps"),
        ({"depth": "deep"}, "model_conf.depth"),
        ({"depth": 10**9}, "model_conf.depth"),
        ({"embed_dim": 1000}, "embed_dim is not a multiple of num_heads"),
        ({"num_heads": 0}, "model_conf.num_heads"),
        ({"num_alibi_heads": 17}, "num_alibi_heads"),
        ({"learned_alibi": "true"}, "model_conf.modalities.audio.learned_alibi"),
        ({"learned_alibi_scale_per_layer": "true"}, "model_conf.modalities.audio.learned_alibi_scale_per_layer"),
        ({"conv_pos_pre_ln": "true"}, "model_conf.modalities.audio.conv_pos_pre_ln"),
        ({"conv_pos_groups": 17}, "conv_pos_groups"),
        ({"extractor_mode": "default"}, "model_conf.modalities.audio.extractor_mode"),
        ({"normalize": "[1]"}, "model_conf.normalize"),
        ({"feature_encoder_spec": "3"}, "model_conf.modalities.audio.feature_encoder_spec"),
        ({"tokenizer": "CharTokenizer\nexcludes: proj"}, "excludes"),
        ({"tokenizer": "CharTokenizer\nscope_map: [one]"}, "scope_map"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_supported_is_refused_by_its_key(
    directory: Path, changes: dict[str, object], key: str
) -> None:
    change_config(directory, changes)
    with pytest.raises(ModelUnusable, match="asks for what Warmline does not do") as refused:
        read_configuration(directory, labels=9)
    assert key in refused.value.message


def test_a_missing_key_is_named(directory: Path) -> None:
    path = directory / "config.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("num_heads: 16", "x: 1", 1), encoding="utf-8")
    with pytest.raises(ModelUnusable, match=r"model_conf\.num_heads: field required"):
        read_configuration(directory, labels=9)


@pytest.mark.parametrize(
    "text",
    [
        "model: !!python/object/apply:os.system [touch WITNESS]",
        "model: [unclosed",
        "- a list",
        "",
        "model: &a [*a, *a]",
        "[" * 1500,
        "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n"
        "g: &g [*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g]\nmodel: [*h,*h,*h,*h,*h,*h,*h,*h]",
        " " * 2_000_000,
    ],
    ids=["code", "syntax", "list", "empty", "loop", "nesting", "bomb", "large"],
)
def test_hostile_yaml_is_refused_at_once(directory: Path, text: str) -> None:
    witness = directory / "witness"
    (directory / "config.yaml").write_text(text.replace("WITNESS", str(witness)), encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(ModelUnusable) as refused:
        read_configuration(directory, labels=9)
    assert time.monotonic() - started < 30
    assert len(refused.value.message) < 1000
    assert not witness.exists()


def test_bytes_that_are_no_text_are_refused(directory: Path) -> None:
    (directory / "config.yaml").write_bytes(b"model: \xff\xfe")
    with pytest.raises(ModelUnusable, match="YAML"):
        read_configuration(directory, labels=9)


def test_keys_that_nobody_knows_are_ignored_as_funasr_does_but_said(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(directory, {"normalize": "true\n  rotary: true"})
    read_configuration(directory, labels=9)
    said = capsys.readouterr().out
    assert "config_keys_ignored" in said
    assert "['rotary']" in said  # and none of those that training reads


def test_a_spec_is_lists_of_triples() -> None:
    first, rest = ConvLayer(512, 10, 5), ConvLayer(512, 3, 2)
    assert parse_feature_encoder_spec("[(512, 10, 5)] + [(512,3,2)] * 2") == (first, rest, rest)
    assert parse_feature_encoder_spec(" 2 * ([(512, 10, 5)] + [(512,3,2)]) ") == (first, rest, first, rest)
    assert parse_feature_encoder_spec("[(512, 10, 5), (512, 3, 2)]") == (first, rest)


@pytest.mark.parametrize(
    "spec",
    [
        "__import__('os').system('touch WITNESS')",
        "[(512, 10, 5)] + [open('WITNESS', 'w')]",
        "[x for x in [(512, 10, 5)]]",
        "[(512, 10, 5)] * 1000000000000",
        "[(512, 10, 5)] * -1",
        "[(512, 10, 5)] * [(512, 10, 5)]",
        "[(512, 10)]",
        "[(512, 10, 0)]",
        "[(512, -10, 5)]",
        "[(512, 10.5, 5)]",
        "[512, 10, 5]",
        "(" * 200,
        "[(512, 10, 5)]" + " + [(512, 3, 2)]" * 1000,
        "9 ** 9 ** 9",
        "[]",
        "",
        "\x00",
    ],
)
def test_any_other_spec_is_refused_and_not_run(tmp_path: Path, spec: str) -> None:
    witness = tmp_path / "witness"
    with pytest.raises(ValueError, match="should"):
        parse_feature_encoder_spec(spec.replace("WITNESS", str(witness)))
    assert not witness.exists()


def test_the_standard_labels_are_read_and_are_the_reports(directory: Path) -> None:
    labels = read_labels(directory)
    assert labels.names == STANDARD_LABELS == REPORT_LABELS
    assert labels.rows == tuple(range(9))
    assert labels.tokens[0] == "生气/angry"


def test_unused_tokens_keep_their_rows(directory: Path) -> None:
    (directory / "tokens.txt").write_text("unuse_0\ncalm\r\nunuse\na/b/Tense\n<unk>\n\n", encoding="utf-8")
    labels = read_labels(directory)
    assert labels.names == ("calm", "Tense", "unknown")
    assert labels.rows == (1, 3, 4)
    assert len(labels.tokens) == 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"sad\nhappy\ntriste/sad\n", "names the label sad more than once"),
        (b"sad\n\nhappy\n", "no label on line 2"),
        (b"unuse_0\n", "no label that is in use"),
        (b"", "no label"),
        (b"sad\xff\n", "not text in UTF-8"),
        (b"x\n" * 100_000, "larger than 64 KiB"),
    ],
)
def test_tokens_that_make_no_labels_are_refused(directory: Path, content: bytes, reason: str) -> None:
    (directory / "tokens.txt").write_bytes(content)
    with pytest.raises(ModelUnusable, match=reason):
        read_labels(directory)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"config\.yaml cannot be read"):
        read_configuration(tmp_path, labels=9)
    with pytest.raises(ModelUnusable, match=r"tokens\.txt cannot be read"):
        read_labels(tmp_path)
