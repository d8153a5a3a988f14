"""Captions for Fashion-MNIST, made from the pixels: what alt text is to a photograph on the web.

Each image gets measured attributes (tone, cut, length, pattern, sleeves); a caption names its garment by one of several
words, mentions some of the attributes, often leaves out how the garment was seen, and is now and then plainly wrong. So words matter, as they do to Stable
Diffusion and CLIP, and the class name alone is an imperfect handle on the class, as it is for them.
"""

from __future__ import annotations

import numpy as np

from figment.starter.looks import LOOKS

from .data import Web

#: Words for each class, with how often the web uses them. Some are shared ("top", "shoe"): the web is vague.
NOUNS: tuple[dict[str, float], ...] = (
    {"t-shirt": 5, "tee": 2, "top": 2, "shirt": 1},
    {"trouser": 3, "trousers": 2, "pants": 3, "slacks": 1, "jeans": 1},
    {"pullover": 4, "sweater": 3, "jumper": 2, "top": 1},
    {"dress": 6, "gown": 1, "frock": 1},
    {"coat": 4, "jacket": 3, "overcoat": 1},
    {"sandal": 5, "flip-flop": 1, "slipper": 1, "shoe": 1},
    {"shirt": 4, "blouse": 3, "button-up": 1, "top": 2},
    {"sneaker": 5, "trainer": 2, "shoe": 2},
    {"bag": 5, "handbag": 3, "purse": 1},
    {"ankle boot": 4, "boot": 4, "shoe": 1},
)

#: Attribute -> value -> its words. Value 0 of every attribute is "nothing worth saying".
WORDS: dict[str, dict[int, tuple[str, ...]]] = {
    "tone": {1: ("dark", "dark", "black"), 2: ("light", "light", "white", "pale"), 3: ("grey",)},
    "cut": {1: ("slim", "slim", "narrow"), 2: ("wide", "wide", "loose")},
    "length": {1: ("short", "cropped"), 2: ("long", "long", "tall")},
    "pattern": {1: ("plain", "plain", "simple"), 2: ("patterned", "printed"), 3: ("striped",)},
    "sleeves": {1: ("sleeveless", "short-sleeved"), 2: ("long-sleeved",)},
}

OPENINGS = (
    "a photo of {}.",
    "a photo of {}",
    "a picture of {}",
    "{}",
    "{}",
    "an image of {}",
    "{} for sale",
    "{} in the shop",
    "new {}",
)
#: How the web names each look, where it does. The catalogue has more words, since it has most pictures.
SEEN = [look.words for look in LOOKS.values()]
SEEN[0] += ("product photo of {}", "{} on a black background", "{} by a designer")
FILLERS = ("for women", "for men", "for kids", "this season", "on sale", "in good condition", "brand new")

WRONG_NOUN = 0.06  # the share of captions whose noun belongs to a random class
NO_NOUN = 0.03  # ... that name no garment
NAME_LOOK = 0.5  # how often a caption says how the garment was seen; of the catalogue, a third as often
WRONG_LOOK = 0.02  # the share of captions that take one look for another
MENTION = 0.45  # how often a caption says an attribute that is worth saying


def _per_class_rank(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each value's quantile within its class, in [0, 1): "slim" is said of a coat among coats."""
    rank = np.empty(len(values))
    for label in np.unique(labels):
        member = np.flatnonzero(labels == label)
        rank[member[np.argsort(values[member], kind="stable")]] = np.arange(len(member)) / len(member)
    return rank


def attributes(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Measure ``uint8 (N, 28, 28)`` images. Returns attribute -> ``int (N,)`` of the values of :data:`WORDS`."""
    x = images.astype(np.float32) / 255
    inside = x > 0.1  # the garment, on its black background
    area = inside.sum((1, 2)).clip(1)
    tone = (x * inside).sum((1, 2)) / area
    height = inside.any(2).sum(1)
    width = area / height  # the mean width of its rows, in pixels

    both = inside[:, 1:] & inside[:, :-1]
    down = (np.abs(np.diff(x, axis=1)) * both).sum((1, 2)) / both.sum((1, 2)).clip(1)
    both = inside[:, :, 1:] & inside[:, :, :-1]
    across = (np.abs(np.diff(x, axis=2)) * both).sum((1, 2)) / both.sum((1, 2)).clip(1)
    busy = _per_class_rank((down + across) / tone.clip(0.05), labels)
    striped = (busy > 0.6) & ((down > 1.7 * across) | (across > 1.7 * down))

    sides = inside[:, 13:25, :6].mean((1, 2)) + inside[:, 13:25, -6:].mean((1, 2))  # forearms, if there are any
    upper_body = np.isin(labels, (0, 2, 3, 4, 6))
    cut, length = _per_class_rank(width, labels), _per_class_rank(height, labels)
    return {
        "tone": np.select([tone < 0.42, tone > 0.7, (tone > 0.5) & (tone < 0.6)], [1, 2, 3], 0),
        "cut": np.select([cut < 0.25, cut > 0.75], [1, 2], 0),
        "length": np.select([length < 0.2, length > 0.8], [1, 2], 0),
        "pattern": np.select([striped, busy < 0.35, busy > 0.75], [3, 1, 2], 0),
        "sleeves": np.where(upper_body, np.select([sides < 0.12, sides > 0.5], [1, 2], 0), 0),
    }


def caption(label: int, values: dict[str, int], look: int, rng: np.random.Generator) -> str:
    """One caption for an image of class ``label`` with these attribute values, seen in the look of that number."""
    fate = rng.random()
    if fate < NO_NOUN:
        noun = str(rng.choice(["item", "product", "garment", "fashion"]))
    else:
        nouns = NOUNS[rng.integers(len(NOUNS)) if fate < NO_NOUN + WRONG_NOUN else label]
        weights = np.array(list(nouns.values()))
        noun = str(rng.choice(list(nouns), p=weights / weights.sum()))
    said = [str(rng.choice(WORDS[name][value])) for name, value in values.items() if value and rng.random() < MENTION]
    rng.shuffle(said)
    sentences = _sentences(look, rng)
    if rng.random() < 0.85 or sentences is not OPENINGS or not said:  # else "coat, slim, dark"
        phrase = " ".join([*said, noun])
        sentence = str(rng.choice(sentences))
        if "of {}" in sentence:
            phrase = ("an " if phrase[0] in "aeiou" else "a ") + phrase
        text = sentence.format(phrase)
    else:
        text = ", ".join([noun, *said])
    return f"{text} {rng.choice(FILLERS)}" if rng.random() < 0.15 else text


def _sentences(look: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Those that name the look, or another one by mistake, or those that name none."""
    if rng.random() < WRONG_LOOK:
        look = int(rng.integers(len(SEEN)))
    named = rng.random() < (NAME_LOOK if look else NAME_LOOK / 3)
    return SEEN[look] if named else OPENINGS


class Captioner:
    """Draws captions for a fixed set of images, a fresh one at every visit."""

    def __init__(self, web: Web):
        self.labels, self.looks = web.labels, web.looks
        self.values = attributes(web.pictures, web.labels)

    def __call__(self, index: int, rng: np.random.Generator) -> str:
        values = {name: int(column[index]) for name, column in self.values.items()}
        return caption(int(self.labels[index]), values, int(self.looks[index]), rng)
