"""Captions that a language model is shown, by kind: what each was written for, and what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[tuple[str, str]]] = {
    "plain": (
        ("bicycle", "a rusty bicycle without a saddle is chained to a lamp post, seen from the side"),
        ("heron", "a grey heron stands on one leg and bends its neck, its beak open"),
        ("teapot", "the spout and half the lid of a chipped blue teapot, photographed from above"),
        ("fire engine", "the front of a fire engine with its ladder folded, taken from a low angle at noon"),
        ("hedgehog", "a small hedgehog has rolled itself up so that only its nose can be seen"),
        ("violin", "a close-up of a violin's strings, with dust of rosin below the bridge"),
        ("mushroom", "three pale mushrooms of different heights grow from one stem, slightly out of focus"),
        ("tractor", "an old green tractor with mud on its rear wheels, its driver's seat empty"),
        ("lemon", "half a lemon lies cut side up, its seeds and the white rim of its peel in sharp focus"),
        ("sheepdog", "a wet sheepdog shakes itself, drops of water flying off its ears"),
        ("staircase", "a narrow spiral staircase of dark iron, looked at from the top step downwards"),
        ("kite", "a red kite with a long tail leans into the wind, its string just visible"),
    ),
    "background": (
        ("goat, on a rocky slope", "a goat with curved horns looks down from a rocky slope, low clouds behind it"),
        ("armchair, in a dim hotel lobby", "a leather armchair stands alone in a dim hotel lobby, lit by one lamp"),
        (
            "pickup truck, at a petrol station",
            "at a petrol station in the rain, a white pickup truck waits beside the pump",
        ),
        ("pineapple, on a market stall", "a single ripe pineapple lies between melons on a crowded market stall"),
        ("seal, on an ice floe", "a spotted seal rests on a small ice floe, dark water all around"),
        ("laptop, on a kitchen table", "an open laptop on a kitchen table, a bowl of cereal pushed to the edge"),
        (
            "lighthouse, under a stormy sky",
            "a striped lighthouse under a stormy sky, waves breaking over the rocks below",
        ),
        ("rabbit, in tall grass", "the ears of a brown rabbit show above tall grass in the evening sun"),
        ("sneaker, on a gym floor", "one worn sneaker with loose laces lies on the shiny floor of a gym"),
        ("fountain, in a snowy park", "an old stone fountain in a snowy park, its basin frozen over"),
    ),
    "relation": (
        ("cat, underneath", "a tabby cat hides underneath a parked car and watches the street"),
        ("umbrella, leaning against", "a wet black umbrella is leaning against a yellow wall beside a door"),
        ("cake, in front of", "a cake with seven candles stands in front of a laughing girl"),
        ("horse, next to", "a brown horse grazes next to a wooden fence with peeling paint"),
        ("book, on top of", "a thick book lies on top of a pile of newspapers, a pair of glasses on it"),
        ("boat, surrounded by", "a small rowing boat is surrounded by water lilies on a still pond"),
        ("owl, inside", "a young owl sits inside a hollow tree, only its face in the light"),
        ("drum, behind", "behind a tall drum, a boy with sticks in both hands waits for his turn"),
    ),
    "place": (
        ("harbour", "fishing boats lie side by side in a small harbour at low tide, gulls on the wall"),
        ("waiting room", "rows of empty chairs in a waiting room, a clock above the door and a plant in the corner"),
        ("vineyard", "long rows of vines in a vineyard run down a hill towards a village with a white church"),
        ("bowling alley", "two lanes of a bowling alley shine under coloured lamps, pins ready at the far end"),
        ("canyon", "a narrow canyon with red walls, a strip of blue sky above and a dry river bed below"),
        ("attic", "an attic with sloping beams, boxes stacked under a small round window"),
    ),
    "texture": (
        ("woven", "a close-up of a woven basket, dry straw crossing over and under in a regular pattern"),
        ("cracked", "cracked paint on an old door, flakes curling away from grey wood"),
        ("bubbly", "a bubbly surface of soap water, each bubble with a rim of rainbow colours"),
        ("striped", "striped cloth in navy and cream, folded so that the lines meet at an angle"),
        ("rippled", "rippled sand at low tide, long parallel ridges with shadows between them"),
        ("knitted", "a knitted blanket of thick wool seen from very near, one stitch slightly loose"),
    ),
}
