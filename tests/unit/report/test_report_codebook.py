"""How often units occur, and which phones they mean."""

from reported_variant import SCRIPT, reported

from pipeline.graph.graph import Graph
from pipeline.report.codebook import codebook
from pipeline.report.variant import variants


def read(*members):
    return variants(Graph(members), [member.config for member in members])


def test_usage_and_phones_are_said_in_words(tmp_path):
    member = reported(tmp_path, "kmeans")
    num_units = member.config.codebook.num_units
    found = codebook(read(member), ["unseen", "test"])
    assert f"Codebook usage on test: kmeans uses 3 of {num_units} units." in found.usage
    assert "unit 0 is a in 100%, unit 2 is &lt;script&gt;" in found.heat_maps["kmeans"]
    assert SCRIPT not in found.heat_maps["kmeans"]


def test_without_tokens_there_is_neither(tmp_path):
    member = reported(tmp_path, "kmeans")
    for name in ("tokenize_corpus/test", "phone_purity/test"):
        member.nodes[name].artifact.delete("manifest.json")
    found = codebook(read(member), ["test"])
    assert found.usage is None
    assert found.heat_maps == {}
