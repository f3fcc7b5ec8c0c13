"""How far the stages are, what they cost, what failed."""

from evaluated_variants import evaluated

from pipeline.graph.graph import Graph
from pipeline.report.stages import Failure, stages
from pipeline.storage.artifacts import ERROR_LOG, MANIFEST


def row_of(found, name):
    [row] = [row for row in found.rows if row.name == name]
    return row


def test_seconds_and_bytes_are_summed_and_versions_listed(tmp_path):
    members = [evaluated(tmp_path, name, [1] * 9) for name in ("a", "b")]
    for number, member in enumerate(members):
        manifest = {"seconds": 1.5, "files": {"x": {"bytes": 700}}, "versions": {"torch": "2"}}
        manifest["versions"]["ray"] = str(number)
        manifest |= {"commit": "abc", "local_changes": number == 1}
        member.nodes["evaluate_asr/test"].artifact.write_json(MANIFEST, manifest)
    found = stages(Graph(tuple(members)), ["b", "a"])
    row = row_of(found, "evaluate_asr")
    assert (row.seconds, row.size, row.state, row.variants) == (
        3.0,
        "1.4 kB",
        "complete",
        ["b", "a"],
    )
    assert found.versions == {"torch": "2", "ray": "0, 1"}
    assert found.commits == {
        "abc": "evaluate_asr",
        "abc with local changes": "evaluate_asr",
    }


def test_what_failed_is_named_with_its_error(tmp_path):
    members = [evaluated(tmp_path, name, [1] * 9) for name in ("a", "b", "c")]
    nodes = [member.nodes["evaluate_asr/test"] for member in members]
    for node in nodes[1:]:
        node.artifact.delete(MANIFEST)
    with nodes[1].artifact.write(ERROR_LOG) as file:
        file.write(b"Traceback:\n  line\nValueError: lower the rate, s3://me:secret@bucket\n")
    found = stages(Graph(tuple(members)), ["a", "b", "c"])
    assert row_of(found, "evaluate_asr").state == "1 complete, 1 failed, 1 not complete"
    log = f"{nodes[1].artifact.uri}/{ERROR_LOG}"
    error = "ValueError: lower the rate, s3://***@bucket"
    assert found.failures == [Failure("evaluate_asr/test[b]", error, log)]


def test_an_output_that_does_not_exist_was_not_run(tmp_path):
    member = evaluated(tmp_path, "a", [1] * 9)
    member.nodes["evaluate_asr/test"].artifact.delete("")
    assert row_of(stages(Graph((member,)), ["a"]), "evaluate_asr").state == "not run"
