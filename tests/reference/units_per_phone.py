"""Units per phone by walking the frames of each utterance."""


def units_per_phone(utterances):
    """The mean over segments of speech, of pairs of each frame's segment (or None) and unit."""
    runs = []
    for segments, units in utterances:
        last_segment, last_unit = None, None
        for segment, unit in zip(segments, units, strict=True):
            if segment is not None and segment.label != "sil":
                if segment is not last_segment:
                    runs.append(1)
                elif unit != last_unit:
                    runs[-1] += 1
            last_segment, last_unit = segment, unit
    return sum(runs) / len(runs)
