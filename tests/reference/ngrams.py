"""Back-off n-gram probabilities straight from the lines of an ARPA file, and Witten-Bell from counts."""

import math


def read(text):
    """Each n-gram, as a tuple of words, with its natural logarithm of p and of the back-off."""
    listed = {}
    length = 0
    for line in text.splitlines():
        if line.startswith("\\") and line.endswith("-grams:"):
            length = int(line[1 : -len("-grams:")])
        elif length and line and not line.startswith("\\"):
            fields = line.split()
            words = tuple(fields[1 : 1 + length])
            backoff = float(fields[1 + length]) if len(fields) > 1 + length else 0.0
            listed[words] = (float(fields[0]) * math.log(10), backoff * math.log(10))
    return listed


def log_p(listed, history, word):
    """Log p(word | all of history), by the definition."""
    if (word,) not in listed:
        word = "<unk>"
    history = tuple(each if (each,) in listed else "<unk>" for each in history)
    if (*history, word) in listed:
        return listed[*history, word][0]
    if not history:
        return -100 * math.log(10)
    return listed.get(history, (0.0, 0.0))[1] + log_p(listed, history[1:], word)


def log_p_sentence(listed, words):
    """Of the sentence and its end."""
    read = ["<s>", *words, "</s>"]
    return sum(log_p(listed, read[:place], read[place]) for place in range(1, len(read)))


def witten_bell(sentences, length, context, word):
    """P(word | context) by counting the sentences anew."""
    vocabulary = {each for sentence in sentences for each in sentence} | {"</s>", "<unk>"}
    follow = []
    for sentence in sentences:
        read = ["<s>", *sentence, "</s>"]
        for place in range(1, len(read)):
            before = read[max(0, place - len(context)) : place]
            if tuple(before) == tuple(context):
                follow.append(read[place])
    shorter = witten_bell(sentences, length, context[1:], word) if context else 1 / len(vocabulary)
    if not follow:
        return shorter
    kinds = len(set(follow))
    return (follow.count(word) + kinds * shorter) / (len(follow) + kinds)
