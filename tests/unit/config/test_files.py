"""Which files a config extends, and where a mistake in any of them is said to be."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import Cluster, ConfigError
from pipeline.config.files import from_options, load, sources
from pipeline.config.yaml_file import Node

BASE = "corpus: {kind: synthetic}\nssl: {model: m, revision: abc}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
        return Path(name)

    write("base.yaml", BASE)
    return write


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("", "list of names, got null"),
        (" 3", "got the number 3"),
        (" [1, 2]", "got the number 1"),
        (" [base.yaml, null]", "got null"),
        (" {base.yaml: 1}", "got a mapping"),
        (" [[base.yaml]]", "got a list"),
        (" []", "got an empty list"),
        (" ''", "got the text ''"),
        (" ' '", "got the text ' '"),
        (" yes", "'yes', but yes does not exist"),
        (" .", r"'\.', but \. is a folder: name a YAML file"),
        (" folder", "'folder', but folder is a folder"),
        (" none.yaml", "'none.yaml', but none.yaml does not exist"),
        (f" {'x' * 300}", "does not exist"),
        (" a.yaml", "goes in a circle: a.yaml extends itself"),
        (" [base.yaml, folder/../a.yaml]", "goes in a circle"),
    ],
)
def test_what_extends_cannot_take_is_one_message_with_the_line(write, extends, message):
    write("folder/x.yaml", "")
    with pytest.raises(ConfigError, match=f"^a.yaml:2: `extends` .*{message}"):
        load(write("a.yaml", f"# a comment\nextends:{extends}\n"))


def test_a_mistake_is_where_it_was_made(write):
    write("base.yaml", BASE + "asr:\n  dim: wide\n  heads: 4\n")
    write("middle.yaml", "extends: base.yaml\n\nasr:\n  headz: 2\n")
    with pytest.raises(ConfigError) as caught:
        load(write("a.yaml", "extends: middle.yaml\n"), ["codebook.num_units=0"])
    assert str(caught.value).splitlines() == [
        "a.yaml: the config cannot be used:",
        (
            "  --set codebook.num_units=0: codebook.num_units: must be greater than or equal to 1, got "
            "the number 0"
        ),
        (
            "  base.yaml:4: asr.dim: must be a valid integer, got the text 'wide': write it with digits "
            "alone"
        ),
        "  middle.yaml:4: asr.headz: unknown key; did you mean 'heads'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codebook:\n  layer: 7", r"  a\.yaml:3: codebook\.layer 7 is not among features\.layers"),
        ("asr:\n  heads: 3", r"  a\.yaml:3: asr: dim 128 must be a multiple of heads 3"),
        (
            "corpus:\n  kind: synthetic\n  min_seconds: 9\n  max_seconds: 3",
            r"  a\.yaml:4, a\.yaml:5: corpus: min_seconds must be less",
        ),
        (
            "corpus:\n  kind: kaldi",
            r"  a\.yaml:2: corpus\.root: not set, .*\(The folder of data folders, one for each split\): write it .* corpus\.root=…",
        ),
        ("asr:", r"  a\.yaml:2: asr: must be a section, got null: give it keys, or leave it out"),
        ("asr: 3", r"  a\.yaml:2: asr: must be a section, got the number 3"),
        ("corpus:", r"  a\.yaml:2: corpus: set corpus\.kind to one of"),
        ("quantizer:", r"  a\.yaml:2: quantizer: must be a section, got null"),
        ("vocoder: {enabled: yes}", r"vocoder\.enabled: .*got the text 'yes': write true or false"),
        ("vocoder: {enabled: 1}", r"vocoder\.enabled: .*got the number 1: write true or false"),
        (
            "storage: 2024",
            r"storage: must be a valid string, got the number 2024: put it in quotes",
        ),
        (
            "ssl: {revision: 1e5}",
            r"ssl\.revision: must be a valid string, got the number 100000\.0",
        ),
        ("features: {layers: 2}", r"features\.layers: must be a list, got the number 2: write \["),
        ("features: {layers: {a: 2}}", r"features\.layers: must be a list, got a mapping"),
        ("training: {phases: {epochs: 2}}", r"training\.phases: must be a list, got a mapping"),
        (
            "training:\n  phases:\n  - epochs: 2\n    epoch: 3",
            r"  a\.yaml:5: training\.phases\.0\.epoch: unknown key; did you mean 'epochs'\?",
        ),
        ("asr.dim: 3", r"asr\.dim: unknown key: a file nests sections"),
        ("on: 3", "on: unknown key"),
        ("corpus: {kind: 3}", r"corpus: set corpus\.kind to one of"),
        ("quantizer: {kind: null}", r"quantizer\.kind: must be a valid string, got null"),
        ("asr: {subsampling: true}", r"asr\.subsampling: must be a valid integer, got true"),
        ("asr: {subsampling: 1.0}", r"asr\.subsampling: must be a valid integer, got the number"),
        ("asr: {subsampling: 3}", r"asr\.subsampling: must be 1, 2 or 4, got the number 3"),
        ("corpus: {kind: synthetic, utterances: 3}", r"corpus\.utterances: must be a section, got"),
        ("cluster: {gpus_per_worker: 1.5}", "a share from 0.0001 on, or whole"),
        ("vocoder: {hifigan: {upsample_kernels: [15, 11, 8, 4]}}", r"15 does not suit the rate 8"),
        ("vocoder: {hifigan: {upsample_kernels: [16, 3, 8, 4]}}", r"3 does not suit the rate 5"),
        ("vocoder: {hifigan: {resblock_kernels: [3, 8]}}", "must be odd"),
        ("vocoder: {hifigan: {initial_channels: 15}}", "no channel would be left"),
        ("vocoder: {istft: {kernel: 4}}", "must be odd, so that frames stay centred"),
        ("codebook: {sample_frames: 63}", "sample_frames 63 must not be less than num_units 64"),
        ("pretraining: {dim: 72}", "a multiple of 16"),
        ("ssl: {model: m, revision: main}", "'main' is no commit"),
        ("corpus: {kind: synthetic, alphabet: ''}", "alphabet is empty"),
        ("corpus: {kind: synthetic, alphabet: aB}", "capital letters, which lowercase removes"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_key(write, text, message):
    with pytest.raises(ConfigError, match=message):
        load(write("a.yaml", f"extends: base.yaml\n{text}\n"))


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "a\\b",
        "..",
        ".",
        "",
        " ",
        " a",
        "a ",
        "-",
        "-a",
        ".a",
        "a.",
        "a\n",
        "a\tb",
        "a:b",
        "a*",
        "a?",
        "a::b",
        "a%",
        "a#b",
        "~a",
        "ä" * 51,
    ],
)
@pytest.mark.parametrize("key", ["variant", "corpus.splits.train", "corpus.splits.test"])
def test_a_name_that_no_file_can_have_is_refused(write, key, name):
    quoted = json.dumps(name if "test" not in key else [name], ensure_ascii=False)
    with pytest.raises(ConfigError, match=rf"--set {key}=.*: {key}(\.0)?: .* cannot be part of a"):
        load("base.yaml", [f"{key}={quoted}"])


@pytest.mark.parametrize(
    "name", ["train-clean-100", "Prüfung 2", "K=10,lr=1e-3", "a_b+c (1)", "1", "it''s"]
)
def test_other_names_are_fine(write, name):
    assert load("base.yaml", [f"variant='{name}'"]).variant == name.replace("''", "'")


@pytest.mark.parametrize(("train", "valid"), [("a", "A"), ("dev set", "devset"), ("ß", "SS")])
def test_splits_that_a_storage_may_not_tell_apart_are_refused(write, train, valid):
    sizes = f"corpus.utterances={{{train}: 5, {valid}: 5, test: 5}}"
    overrides = [f"corpus.splits.train={train}", f"corpus.splits.valid={valid}", sizes]
    with pytest.raises(ConfigError, match="differ only in capitals or spaces"):
        load("base.yaml", overrides)


def test_pooling_must_suit_the_vocoder_and_the_shortest_utterance(write):
    folder = ["ssl={model: ssl, revision: null}"]
    write("ssl/config.json", '{"num_hidden_layers": 2, "conv_stride": [5, 2, 2, 2, 2, 2, 2]}')
    hifigan = "vocoder.generator=hifigan"
    message = r"a unit stands for 640 .*product 640; a frame .* is 320, and features\.pool is 2"
    with pytest.raises(ConfigError, match=message):
        load("base.yaml", [*folder, hifigan, "features.pool=2"])
    assert load("base.yaml", [*folder, "features.pool=2"]).features.pool == 2
    silent = [*folder, "vocoder.enabled=false"]
    assert load("base.yaml", [*silent, "features.pool=4"]).features.pool == 4
    with pytest.raises(ConfigError, match=r"min_seconds 0\.05 .*features\.pool 4.*0\.095 s"):
        load("base.yaml", [*silent, "features.pool=4", "corpus.min_seconds=0.05"])
    assert load("base.yaml", [*silent, "corpus.min_seconds=0.05"]).features.pool == 1
    with pytest.raises(ConfigError, match=r"features\.pool"):
        load("base.yaml", [*silent, "features.pool=3"])


def test_what_the_folder_of_an_ssl_model_says_is_compared_with_the_config(write):
    folder = ["ssl={model: ssl, revision: null}"]
    write("ssl/config.json", '{"num_hidden_layers": 2, "conv_stride": [5, 2, 2, 2, 2, 2, 2]}')
    assert load("base.yaml", folder).features.layers == (0, 1, 2)
    with pytest.raises(ConfigError, match=r"--set features\.layers=.*'ssl' has the layers 0 to 2"):
        load("base.yaml", [*folder, "features.layers=[2, 3]"])
    rates = [
        "vocoder.generator=hifigan",
        "vocoder.hifigan={upsample_rates: [8, 8, 4], upsample_kernels: [16, 16, 8]}",
    ]
    with pytest.raises(ConfigError, match=r"multiply to 256.*; a frame of ssl\.model 'ssl' is 320"):
        load("base.yaml", [*folder, *rates])
    assert not load("base.yaml", [*folder, *rates, "vocoder.enabled=false"]).vocoder.enabled
    whisper = {"model_type": "whisper", "encoder_layers": 2, "d_model": 8, "decoder_layers": 4}
    write("ssl/config.json", json.dumps(whisper))
    assert load("base.yaml", folder).ssl.hidden_size == 8
    with pytest.raises(ConfigError, match="'ssl' has the layers 0 to 2"):
        load("base.yaml", [*folder, "features.layers=[2, 3]"])
    with pytest.raises(ConfigError, match=r"a frame of ssl\.model 'ssl' is 320"):
        load("base.yaml", [*folder, *rates])
    write("ssl/config.json", '{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="'ssl' is a 'bert' model; name one of wavlm, hubert"):
        load("base.yaml", folder)
    for broken in ("{", "[" * 100_000, "[]", "\udcff"):
        Path("ssl/config.json").write_text(broken, errors="surrogateescape")
        with pytest.raises(ConfigError, match=r"  --set ssl=.*: ssl\.model: ssl/config\.json"):
            load("base.yaml", folder)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("''", "must not be empty"),
        ("' '", "must not be empty"),
        (r'"a\nb"', r"control characters \['\\n'\]"),
        ("~/runs", "not expanded in a config: write the whole path"),
        ("$HOME/runs", "not expanded in a config"),
        ("s3://", "neither a path nor an address"),
        ("s3:/bucket", "neither a path nor an address"),
        ("nope://bucket", "cannot be opened .*nope"),
        ("simplecache::s3://bucket", "cannot be opened"),
    ],
)
@pytest.mark.parametrize("key", ["storage", "codebook.refine"])
def test_an_address_that_cannot_be_meant_is_refused(write, key, address, message):
    with pytest.raises(ConfigError, match=f": {key}: .*{message}"):
        load("base.yaml", ["codebook.method=coreset", f"{key}={address}"])


@pytest.mark.parametrize("address", ["runs", "/a b/c", "s3://bucket", "file:///a", "C:x", "."])
def test_other_addresses_are_fine(write, address):
    assert load("base.yaml", [f"storage={address}"]).storage == address


def test_files_may_be_extended_twice_but_not_without_end(write):
    write("left.yaml", "extends: base.yaml\nasr: {dim: 64}")
    write("right.yaml", "extends: base.yaml\nasr: {heads: 2}")
    both = load(write("both.yaml", "extends: [left.yaml, right.yaml]"))
    assert (both.asr.dim, both.asr.heads) == (64, 2)
    assert [path.name for path in sources(Path("both.yaml"))] == [
        "both.yaml",
        "right.yaml",
        "base.yaml",
        "left.yaml",
        "base.yaml",
    ]
    for number in range(40):  # 2^40 files, if all were read
        below = f"f{number - 1}.yaml" if number else "base.yaml"
        write(f"f{number}.yaml", f"extends: [{below}, {below}]")
    with pytest.raises(ConfigError, match=r"f39.yaml: it extends more than 64 files"):
        load("f39.yaml")


def test_a_config_with_many_mistakes_shows_the_first(write):
    unknown = "".join(f"key{number}: 1\n" for number in range(50))
    with pytest.raises(ConfigError) as caught:
        load(write("a.yaml", f"extends: base.yaml\n{unknown}"))
    assert len(str(caught.value).splitlines()) == 22
    assert str(caught.value).endswith("  and 30 more")


def _values():
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    names = st.sampled_from(
        ["kind", "dim", "layers", "seed", "phases", "epochs", "splits", "train"]
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=8,
    )


_SECTIONS = st.sampled_from(
    ["corpus", "asr", "training", "quantizer", "features", "storage", "ssl"]
)


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.dictionaries(_SECTIONS, _values(), max_size=3))
def test_any_values_are_a_config_or_one_error(write, values):
    path = write("any.yaml", f"extends: base.yaml\n{yaml.safe_dump(values)}" if values else BASE)
    try:
        load(path)
    except ConfigError as error:
        assert "any.yaml" in str(error)  # noqa: PT017 - some values raise none


def test_options_of_a_command_are_refused_by_their_names():
    workers = {"extraction_workers": Node(2, "--workers 2")}
    assert from_options(Cluster, workers).extraction_workers == 2
    shares = {"gpus_per_worker": Node(1.5, "--gpus-per-worker 1.5")}
    with pytest.raises(ConfigError, match=r"these options .*\n  --gpus-per-worker 1\.5: .* whole"):
        from_options(Cluster, shares)
    unknown = {"cpus_per_worker": Node(float("nan"), "--cpus-per-worker nan")}
    with pytest.raises(
        ConfigError, match=r"--cpus-per-worker nan: cpus_per_worker: must be a finite"
    ):
        from_options(Cluster, unknown)


def test_a_key_of_a_list_that_must_be_set_is_asked_for_as_set_takes_it(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("corpus: {kind: synthetic}\ntraining:\n  phases: [{epochs: 1}, {ssl: frozen}]")
    with pytest.raises(ConfigError, match=r"Passes over .*--set training\.phases\[1\]\.epochs=…"):
        load(path)
