"""The greatest numbers that a recipe may ask for: far above what anybody needs, and low enough that counting, planning and a dry
run stay quick, and that a slip of the finger is told before anything is allocated."""

from __future__ import annotations

IMAGES_A_CLASS = 10_000_000
IMAGES = 1_000_000_000  # classes x images_per_class; the sets of the literature have a few hundred millions
PROMPTS_A_CLASS = 100_000
PROMPTS = 2_000_000  # classes x prompts of a class, which are held in memory; ImageNet's 21,000 classes take a million
SIDE = 8_192  # of a generated image, in pixels
PIXELS = 2**32  # height x width x images of a batch
SHARD = 65_536  # images in a file
SHARD_PIXELS = 2**34  # height x width x images in a file, which is made in memory
TOKENS = 10_000  # of a sentence
TEMPERATURE = 100.0  # of a language model
TOP_K = 1_000_000
TRIES = 100
RATE = 1_000.0  # a learning rate or a weight decay
WEIGHT = 1e6  # of a part of a loss; a norm of a gradient
EPOCHS = 100_000
SHOWN = 10**11  # epochs x images: a thousand times what ImageNet takes
STEPS = 100_000_000
BATCH = 1_000_000  # images a step
RANK = 1_024  # of a LoRA
TRAININGS = 1_000  # of one kind: seeds, placebos, sets drawn again, draws of photographs
SHOTS = 1_000_000  # real images a class
STAGES = 10  # of a cascade
FILTERS = 50
ARMS = 100
VARIANTS = 100
RUNS = 3_000  # rows x columns x seeds of a table
MONEY = 1e9
