from pipeline.corpus.audio_names import audio_by_stem


def test_audio_is_known_by_its_extension_in_any_case():
    names = ["1/a.flac", "1/b.FLAC", "2/a.wav", "v1.2.mp3", "a.txt", "flac", "1/._a.flac", ".flac"]
    assert audio_by_stem(names, "flac") == {
        "1/a": "1/a.flac",
        "1/b": "1/b.FLAC",
        "2/a": "2/a.wav",
        "v1.2": "v1.2.mp3",
        "": ".flac",
    }


def test_of_several_the_format_of_the_corpus_counts():
    names = ["a.aiff", "a.FLAC", "a.flac", "a.wav", "b.ogg", "b.mp3"]
    assert audio_by_stem(names, "flac") == {"a": "a.flac", "b": "b.mp3"}
    assert audio_by_stem(reversed(names), "wav") == {"a": "a.wav", "b": "b.mp3"}
