"""The words of the page around its tables. Measured numbers are the rows'."""

FIRST = """# How often the verdict is wrong, and how often right

Made by `python tools/calibrate.py` from raw rows, each with commit and command: [{rows}]({rows}). Everything is of the starter's task {task}: ten classes, a scale model of CLIP,
{generated} generated images of the demo's recipe and 10,000 real test images. A set is 200 images a class, drawn with replacement within each class; a study is a set and n test
images, drawn with replacement, so every truth is known. Sets are few and studies many: the studies of a case share its sets. Rates are per cent with the binomial (Wilson) 95 % interval of their studies, which is too narrow by that.
One training seed (a run averages three), 6 placebos, 20 sets drawn again. D1, D2, D3 are the differences to the zero-shot classifier, to it with its bias removed, and to the placebo.
"Start text" is the zero-shot classifier, tuned; "bias removed" is tuned from it with its bias removed, which is the teacher of the soft targets too and stays the same where the set is drawn again; "words and images" is the learner of that name."""

NOTES = {
    "targets": ("What had to be shown", ""),
    "nulls": (
        'False "helps"',
        """Per cent of studies by the number of test images, and the truth: mean D1, D2, D3 of the sets in points. Where one is not positive, or the images are of something else, every "helps" is false.
"Shuffled after the filter" is the hardest: labels are right before the filter, so the content gate is passed. Sets of digits or stripes by class give these to the classes at random, anew in each set;
with stripes and other images of no class there is no CLIP filter, since it would keep none.""",
    ),
    "power": (
        '"Helps" where labels are right',
        """Measured; expected (by the truth and the widths of the three intervals: at least, at most); how often the content gate is passed. Per cent. Where a difference is not positive
"helps" is false here too. Weak names: normal noise of standard deviation .05 (seed 5) in each of the 128 numbers of the classes' text features, normalised again. "Filtered by them": the demo's filter, by the
weak names themselves; the other is by these with their bias removed. Below: what the names alone are right on.""",
    ),
    "coverage": (
        "Intervals that hold the truth of the kind",
        "D1 / D2 / D3, nominal 95 %, right labels; the bias of D2 is fitted anew on every set drawn again. The truth is the mean over the case's sets.",
    ),
    "pairs": (
        "Two sets of one generator",
        "Surely better / surely worse, nominal 2.5 % each, with the draw of both sets in the interval; then with test images alone, as intervals usually have it. Below: how much accuracy varies between sets, less the noise of test images, and what the sets drawn again say.",
    ),
    "arms": (
        "Several arms",
        """First: any of ten sets of one recipe called better than an eleventh, with Holm's correction; without; and with neither correction nor the draw of the sets. Second: any of ten recipes with shuffled labels that "helps", by the
p of the whole verdict, with Holm's correction and without.""",
    ),
    "bursts": (
        "Bursts",
        "Test images in bursts of five, nine of ten like the first of their burst, two classifiers of which none is better: called better, nominal 2.5 %, with `groups`; and without.",
    ),
    "two classes": (
        "Two classes",
        """Sneaker and sandal, 200 images a class, plain cross-entropy, learning rate .01, 100 sets, batches of all images: accuracy on the real images, mean ± standard deviation (range of draws). Swapped is what a
placebo would be in which no image keeps its label.""",
    ),
    "photographs": (
        "The exchange rate",
        """To a learner without words. A study has a set, 100 photographs a class for the curve (5 draws) and n test images. The truth is where the mean accuracy of all sets meets a curve of 40 draws from all photographs. Below: how often a set that holds
nothing is said to be worth less than one photograph; and how often the whole interval is (20 studies a case).""",
    ),
    "other shots": (
        "Other choices of the few real images",
        """Words and images with k photographs a class, against the same photographs alone. A choice is a set and k photographs; the truth is the mean over all choices. Intervals that hold it, per cent, with ten other choices of photographs
and sets in them (`evaluate.shot_draws: 10`); and with sets drawn again alone, as the claim about these photographs has it. Then: called better, with the other choices.""",
    ),
    "networks": (
        "A learner without words",
        """The 32-pixel CNN, trained on generated images alone with 100 steps of 32 images (usual: 1,000 of 128) and looked at on 2,000 test images: against chance and two placebos, no set drawn again. "Helps", per cent of studies, and how
often the content gate is passed. Truth: accuracy, and the difference to the placebos in points.""",
    ),
    "demo": ("The demo itself", "Its own 2,000 images and all test images, one training seed."),
}
