"""An id says where a file lies below its folder; two files never have one, and none ever changes."""

import pytest

from pipeline.commands.unit_ids import Naming, name_files


def ids(uris, *more):
    return {uri: name.utt_id for uri, name in name_files(uris, *more).items()}


@pytest.mark.parametrize("root", ["/data/speech", "s3://bucket/speech"])
def test_files_count_from_the_folder_that_was_named(root):
    files = [f"{root}/b/x.wav", f"{root}/b/v1.2.mp3"]
    assert list(ids(files, [root]).values()) == ["b/v1.2", "b/x"]
    assert list(ids(files, [f"{root}/b", root]).values()) == ["b/v1.2", "b/x"]
    assert list(ids(files).values()) == ["v1.2", "x"]


def test_files_named_one_by_one_have_the_ids_of_their_folder():
    files = ["/a/x.wav", "/a/deep/y.wav", "/a/deep/er/z.wav"]
    assert ids(files) == ids(files, ["/a"])
    assert ids(["/a/b.wav"]) == {"/a/b.wav": "b"}
    assert ids(["/a.wav", "/b/c.wav"]) == {"/a.wav": "a", "/b/c.wav": "b/c"}
    assert ids(["/A/x.wav", "/B/x.wav"]) == {"/A/x.wav": "A/x", "/B/x.wav": "B/x"}


def test_ids_of_several_folders_carry_as_much_of_their_address_as_is_needed():
    named = ids(
        ["/d/2019/rec/x.wav", "/d/2020/rec/x.wav", "/e/x.wav"], ["/d/2019/rec", "/d/2020/rec", "/e"]
    )
    assert list(named.values()) == ["2019/rec/x", "2020/rec/x", "e/x"]
    assert list(ids(["/a/b/x.wav", "/b/x.wav"], ["/a/b", "/b"]).values()) == ["a/b/x", "b/x"]
    # Nothing but the storage differs.
    alike = ["/bucket/x.wav", "s3://bucket/x.wav", "s3://other/x.wav"]
    assert len(set(ids(alike, ["/bucket", "s3://bucket", "s3://other"]).values())) == 3
    assert len(set(ids(alike).values())) == 3


def test_what_is_listed_keeps_its_place_and_its_id():
    first = Naming({"/A": ""}, {"x", "B/x"})
    assert ids(["/A/new.wav"], ["/A"], first) == {"/A/new.wav": "new"}
    assert ids(["/A/deep/new.wav"], ["/A/deep"], first) == {"/A/deep/new.wav": "deep/new"}
    # The folder's name alone would look like a folder in A.
    assert ids(["/C/B/x.wav"], ["/C/B"], first) == {"/C/B/x.wav": "C/B/x"}
    several = Naming({"/A": "A/", "/B": "B/"}, {"A/x", "B/x"})
    assert ids(["/A/new.wav"], ["/A"], several) == {"/A/new.wav": "A/new"}
    inner = Naming({"/A/deep": ""}, {"x"})
    assert ids(["/A/deep/y.wav", "/A/x.wav"], ["/A"], inner) == {
        "/A/deep/y.wav": "y",
        "/A/x.wav": "A/x",
    }


def test_two_files_of_one_name_keep_their_extensions():
    assert ids(["/a/x.wav", "/a/x.flac", "/a/x.flac.wav"]) == {
        "/a/x.flac": "x",
        "/a/x.flac.wav": "x.flac",
        "/a/x.wav": "x.wav",
    }
    taken = Naming({"/a": ""}, {"x", "x.wav"})
    assert ids(["/a/x.wav"], ["/a"], taken) == {"/a/x.wav": "/a/x.wav"}
