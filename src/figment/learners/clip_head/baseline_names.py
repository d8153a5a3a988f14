"""The other ways to learn from a few real images, by the names that recipes use. Apart, so that no torch is loaded to read them."""

from __future__ import annotations

AUGMENTED = "augmented"  # the one that asks for no words
#: name -> what it is called where a person reads it, and what it is
BASELINES = {
    "tip_adapter": ("Tip-Adapter", "a cache of the real images beside the zero-shot classifier, no training"),
    "tip_adapter_f": ("Tip-Adapter-F", "that cache, fine-tuned"),
    "coop": ("CoOp", "the words around the class names learnt from the real images"),
    "linear_probe": ("linear probe", "logistic regression on the real images, no words"),
    AUGMENTED: ("real + augmentation", "the real images, cropped and mirrored at random"),
}
