"""What a container promises, against what is there: the exact reason for each kind of mismatch."""

import io
import struct

import numpy as np
import pytest
import sound_files
import soundfile

from pipeline.audio.containers.checksums import crc8, crc16, crc32_of_ogg
from pipeline.audio.decode import AudioError, decode, probe_seconds

RATE = 16000
WITH_A_LENGTH = [
    name for name in sound_files.WRITTEN if not name.startswith(("FLAC", "OGG", "MP3", "CAF-ALAC"))
]
ID3 = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)


@pytest.fixture
def read(tmp_path):
    """The samples of a file with some content."""

    def samples(content, *interval):
        (tmp_path / "a").write_bytes(content)
        return decode(str(tmp_path / "a"), *interval)[0]

    return samples


@pytest.fixture
def reason(read):
    """Why a file with some content is a reject."""

    def message(content):
        with pytest.raises(AudioError) as caught:
            read(content)
        return str(caught.value)

    return message


def content_of(container, coding="PCM_16", rate=RATE, channels=1, endian="FILE"):
    return sound_files.make(f"{container}-{coding}-{rate}-{channels}-{endian}").content


def replaced(content, old, new):
    assert content.count(old) == 1
    return content.replace(old, new)


@pytest.mark.parametrize("name", WITH_A_LENGTH)
def test_half_a_file_says_what_was_promised_and_what_was_found(reason, name):
    content = sound_files.make(name).content
    half, promised = len(content) // 2, len(content)
    if name.startswith(("VOC-PCM_16", "WAV-GSM610")):
        promised -= 1  # a terminator, or padding
    assert reason(content[:half]) == (
        f"audio is cut short: {half} bytes of the {promised} its header promises"
    )


@pytest.mark.parametrize(
    "name", [name for name in WITH_A_LENGTH if not name.startswith(("CAF", "VOC-PCM_U8"))]
)
def test_what_is_before_the_cut_is_as_in_the_complete_file(read, name):
    content = sound_files.make(name).content
    whole = read(content)
    part = read(content[: len(content) * 3 // 4], 0.25, 0.25)
    quarter = sound_files.WRITTEN[name].rate_hz // 4
    np.testing.assert_array_equal(part, whole[quarter : 2 * quarter])


@pytest.mark.parametrize(
    ("coding", "num_samples"), [("GSM610", 8000), ("G721_32", 8040), ("ULAW", 8000)]
)
def test_telephone_codings_in_wav_are_read(read, coding, num_samples):
    content = content_of("WAV", coding, 8000)
    whole = read(content)
    assert whole.shape == (num_samples, 1)
    np.testing.assert_array_equal(read(content, 0.5, 0.25), whole[4000:6000])
    speech = sound_files.like_speech(8000, 1)
    assert np.corrcoef(whole[:8000, 0], speech[:, 0])[0, 1] > 0.95


def test_padding_is_no_block_of_gsm(tmp_path):
    soundfile.write(tmp_path / "a", np.zeros(8000), 8000, format="WAV", subtype="GSM610")
    assert soundfile.info(tmp_path / "a").frames == 8320
    assert probe_seconds(str(tmp_path / "a")) == 1.0


def test_a_recording_that_was_never_finished(reason):
    for content, length in (
        (content_of("WAV"), b"data" + struct.pack("<I", 32000)),
        (content_of("AU", endian="BIG"), struct.pack(">I", 32000)),
    ):
        assert reason(replaced(content, length, length[:-4] + bytes(4))) == (
            "audio was never finished: its header says 0 bytes of samples, and 32000 bytes follow; "
            "write its length into the header (`sox --ignore-length`)"
        )


def test_an_empty_recording_is_empty(reason):
    soundfile.write(file := io.BytesIO(), np.zeros(0), RATE, format="WAV")
    assert reason(file.getvalue()) == "audio holds no samples"


def test_an_au_file_may_leave_its_length_open(read):
    content = content_of("AU", endian="BIG")
    streamed = replaced(content, struct.pack(">I", 32000), b"\xff" * 4)
    np.testing.assert_array_equal(read(streamed), read(content))


def test_sox_leaves_the_length_of_aiff_open_in_a_pipe(read):
    content = content_of("AIFF")
    streamed = replaced(content, struct.pack(">I", 32008), struct.pack(">I", 0x7F000008))
    np.testing.assert_array_equal(read(streamed), read(content))


@pytest.mark.parametrize(
    ("container", "old", "new"),
    [
        ("CAF", struct.pack(">q", 32004), b"\xff" * 8),
        ("W64", struct.pack("<Q", 32024), b"\xff" * 7 + b"\x7f"),
        ("NIST", b"sample_count", b"sample_counT"),
    ],
)
def test_other_open_lengths_are_refused(reason, container, old, new):
    message = reason(replaced(content_of(container), old, new))
    assert message.startswith("audio does not say its length: ")


@pytest.mark.parametrize("container", ["IRCAM", "PAF", "PVF", "AVR", "SVX", "MAT4", "MAT5", "HTK"])
def test_containers_that_are_not_checked_are_refused(reason, container):
    file = io.BytesIO()
    soundfile.write(file, np.ones(100) / 2, RATE, format=container, subtype="PCM_16")
    assert reason(file.getvalue()).startswith(
        "container is not supported: nothing would show a cut"
    )
    assert reason(file.getvalue()).endswith("convert it to WAV or FLAC")


def test_more_than_the_header_accounts_for(reason):
    for container in ("WAV", "AU", "NIST", "W64", "AIFF"):
        content = content_of(container, endian="BIG" if container == "AU" else "FILE")
        assert reason(content + b"some text\n") == (
            f"audio does not match its header: it accounts for {len(content)} bytes of the file's "
            f"{len(content) + 10}"
        )


def test_headers_that_contradict_themselves(reason):
    wav = content_of("WAV")
    stereo = wav[:22] + struct.pack("<H", 3) + wav[24:]
    assert reason(stereo) == (
        "audio does not match its header: bytes in a frame are 2 in one place, 6 in another"
    )
    faster = wav[:24] + struct.pack("<I", 32000) + wav[28:]
    assert reason(faster) == (
        "audio does not match its header: bytes in a second are 32000 in one place, 64000 in another"
    )
    aiff = replaced(content_of("AIFF"), struct.pack(">I", 16000), struct.pack(">I", 15000))
    assert reason(aiff) == (
        "audio does not match its header: bytes of samples are 30000 in one place, 32000 in another"
    )


def with_total(flac, total):
    """Another number of samples in the first block."""
    numbers = int.from_bytes(flac[18:26], "big") >> 36 << 36 | total
    return flac[:18] + numbers.to_bytes(8, "big") + flac[26:]


def test_the_last_frame_of_flac_says_where_it_ends(read, reason):
    flac = content_of("FLAC")
    assert len(read(with_total(flac, 16000))) == 16000
    assert reason(with_total(flac, 16001)) == (
        "audio is cut short: 16000 samples of the 16001 its header promises"
    )
    assert reason(with_total(flac, 15999)) == (
        "audio does not match its header: 16000 samples where it promises 15999"
    )
    assert reason(with_total(flac, 0)).startswith("audio does not say its length")


def pages(ogg):
    """The pages of an Ogg file."""
    starts = [i for i in range(len(ogg)) if ogg.startswith(b"OggS\0", i)]
    return [ogg[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def with_serial(page, serial):
    changed = bytearray(page[:14] + struct.pack("<I", serial) + page[18:])
    changed[22:26] = bytes(4)
    changed[22:26] = struct.pack("<I", crc32_of_ogg(changed))
    return bytes(changed)


@pytest.mark.parametrize(("coding", "rate"), [("VORBIS", 16000), ("OPUS", 48000)])
def test_each_page_of_ogg_counts(reason, coding, rate):
    ogg = content_of("OGG", coding, rate)
    parts = pages(ogg)
    damaged = bytearray(ogg)
    damaged[len(ogg) - 400] ^= 1
    last = len(ogg) - len(parts[-1])
    assert reason(damaged) == (
        f"audio is damaged: Ogg page {len(parts) - 1} at byte {last} does not match its checksum"
    )
    gap = b"".join(parts[:-2] + parts[-1:])
    assert reason(gap) == (
        f"audio is damaged: Ogg page {len(parts) - 1} at byte {len(gap) - len(parts[-1])} should be "
        f"page {len(parts) - 2}"
    )
    assert reason(b"".join(parts[:-1])) == (
        "audio is cut short: the last page of its Ogg stream is missing"
    )


@pytest.mark.parametrize(("coding", "rate"), [("VORBIS", 16000), ("OPUS", 48000)])
def test_chained_and_multiplexed_ogg_is_refused(reason, coding, rate):
    ogg = content_of("OGG", coding, rate)
    other = [with_serial(page, 77) for page in pages(ogg)]
    several = "audio holds more than one stream: "
    assert reason(ogg + ogg) == f"{several}the first ends at byte {len(ogg)} of {2 * len(ogg)}"
    assert reason(ogg + b"".join(other)).startswith(several)
    multiplexed = [page for pair in zip(pages(ogg), other, strict=True) for page in pair]
    first = len(multiplexed[0])
    assert (
        reason(b"".join(multiplexed)) == f"{several}Ogg page 0 at byte {first} belongs to another"
    )


@pytest.mark.parametrize(
    ("container", "coding", "message"),
    [
        ("wav", "libmp3lame", "coding is not supported: MP3 in WAV; convert it to WAV or FLAC"),
        ("mp2", "mp2", "container is not supported: nothing would show a cut in MPEG-1/2 Audio"),
        ("mp3", "libmp3lame", None),
        ("w64", "pcm_s16le", None),
        # Several blocks, whose headers libsndfile would read as samples.
        ("voc", "pcm_s16le", "audio holds more than one stream: 28 blocks of a VOC file"),
    ],
)
def test_what_ffmpeg_writes_and_libsndfile_does_not_read_rightly(
    read, reason, container, coding, message
):
    speech = sound_files.like_speech(RATE, 1)[:, 0]
    content = sound_files.encode_with_ffmpeg(speech, RATE, container, coding)
    if message is None:
        assert np.corrcoef(read(content)[:RATE, 0], speech)[0, 1] > 0.99
    else:
        assert reason(content).startswith(message)


def test_libsndfile_takes_float_behind_an_extensible_wave64_header_for_integers(read, reason):
    guid = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    samples = np.float32(sound_files.like_speech(RATE, 1))

    def wave64(tag):
        coding = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE, 4 * RATE, 4, 32, 22, 32, 4, tag)
        coding += bytes.fromhex("000000001000800000aa00389b71")
        chunks = b"fmt " + guid + struct.pack("<Q", 64) + coding
        chunks += b"data" + guid + struct.pack("<Q", 24 + samples.nbytes) + samples.tobytes()
        start = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
        return start + struct.pack("<Q", 40 + len(chunks)) + b"wave" + guid + chunks

    misread, _ = soundfile.read(io.BytesIO(wave64(3)), always_2d=True)
    assert np.corrcoef(misread[:, 0], samples[:, 0])[0, 1] < 0.9
    assert reason(wave64(3)).startswith("coding is not supported: other samples than integers")
    assert len(read(wave64(1))) == RATE


def test_an_odd_number_of_bytes_may_be_counted_with_its_padding(read):
    soundfile.write(file := io.BytesIO(), np.ones(100) / 2, 8000, format="AIFF", subtype="PCM_S8")
    frames = file.getvalue().index(struct.pack(">I", 100))
    odd = file.getvalue()[:frames] + struct.pack(">I", 99) + file.getvalue()[frames + 4 :]
    assert len(read(odd)) == 100


@pytest.mark.parametrize("name", ["FLAC", "MP3", "WAV", "AIFF"])
def test_tags_at_both_ends_change_nothing(read, name):
    content = content_of(name, "MPEG_LAYER_III" if name == "MP3" else "PCM_16")
    expected = read(content)
    ape = b"APETAGEX" + struct.pack("<III", 2000, 32, 0) + bytes(12)
    for tagged in (
        ID3 + ID3 + content,
        content + ape + b"TAG" + bytes(125),
        ID3 + content + bytes(99),
    ):
        np.testing.assert_array_equal(read(tagged), expected)


def test_an_mp3_is_held_against_its_first_frame(read, reason):
    mp3 = content_of("MP3", "MPEG_LAYER_III")
    assert read(mp3).shape == (16000, 1)
    second = mp3.index(mp3[:2], 4)
    assert reason(mp3[second:]).startswith(
        "audio does not say its length: no Xing or Info frame counts the frames of this MP3"
    )
    vbri = mp3[:4] + bytes(32) + b"VBRI" + mp3[40:]
    assert reason(vbri).startswith("audio does not say its length: no Xing or Info frame")
    assert reason(mp3[:-1]) == "audio is cut short: 29 frames of the 30 its header promises"
    assert reason(mp3[:400] + mp3[401:]).startswith(
        "audio is damaged: no MP3 frame begins at byte "
    )
    assert reason(mp3 + mp3) == (
        f"audio does not match its header: 30 frames in it end at byte {len(mp3)} of {2 * len(mp3)}"
    )


def voc(*blocks):
    return b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x10A, 0x1129) + b"".join(blocks)


def sound_block(kind, length, samples):
    head = struct.pack("<IBBH4x", RATE, 16, 1, 4) if kind == 9 else b""
    return bytes([kind]) + length.to_bytes(3, "little") + head + samples


def test_voc_blocks(read, reason):
    half = b"\1\2" * 8000
    one = voc(sound_block(9, 12 + 16000, half), b"\0")
    assert len(read(one)) == 8000
    # SoX counts 8 bytes too few.
    np.testing.assert_array_equal(read(voc(sound_block(9, 4 + 16000, half), b"\0")), read(one))
    two = voc(sound_block(9, 12 + 16000, half), sound_block(2, 16000, half), b"\0")
    assert reason(two).startswith("audio holds more than one stream: 2 blocks of a VOC file")


def test_compressed_sphere_is_named(reason):
    header = b"NIST_1A\n   1024\nsample_count -i 9\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    assert reason(header.ljust(1024) + bytes(99)) == (
        "not readable as audio: SPHERE of pcm,embedded-shorten-v2.00; convert it with sph2pipe"
    )


def remainder(data, polynomial, degree):
    """By long division, most significant bit first."""
    number = int.from_bytes(data, "big") << degree
    for bit in reversed(range(degree, 8 * len(data) + degree)):
        if number >> bit & 1:
            number ^= polynomial << bit - degree
    return number


def test_checksums_are_remainders_of_a_long_division():
    data = bytes(np.random.default_rng(0).integers(0, 256, 99, np.uint8))
    assert crc8(data) == remainder(data, 0x107, 8)
    assert crc32_of_ogg(data) == remainder(data, 0x104C11DB7, 32)
    reversed_bits = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    assert f"{crc16(data):016b}"[::-1] == f"{remainder(reversed_bits, 0x18005, 16):016b}"
