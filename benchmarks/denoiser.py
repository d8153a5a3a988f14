"""Where the time of the starter's denoiser goes, and which share of the chip's rate of matrix products it reaches.

    python benchmarks/denoiser.py                  a minute; as many threads as torch takes, OMP_NUM_THREADS=1 for one
    python benchmarks/denoiser.py --batch 16 --dtype float32

Rates are of one run: a pass of the UNet as figment runs it, against ``torch.mm`` of square matrices of 2,048 in the same dtype. Operations
are counted by torch's own counter, which counts matrix products and convolutions alone; the profile is of torch's profiler.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from figment.device import generator_dtype
from figment.generate.diffusers import DiffusersGenerator
from figment.machine import processor

SIDE, REPEATS, SHOWN = 2048, 15, 12


def seconds(call: Callable[[], object]) -> float:
    """The median of some calls, after two that count for nothing."""
    spent = []
    for repeat in range(REPEATS + 2):
        started = time.perf_counter()
        call()
        if repeat > 1:
            spent.append(time.perf_counter() - started)
    return statistics.median(spent)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    args = parser.parse_args()
    dtype = generator_dtype(args.dtype, torch.device("cpu"))
    generator = DiffusersGenerator(model="starter", device="cpu", dtype=args.dtype)
    unet, pipe = generator.pipe.unet, generator.pipe
    size = unet.config.sample_size
    latents = torch.randn(args.batch, unet.config.in_channels, size, size, dtype=dtype)
    ids = pipe.tokenizer(
        "a photo of a coat", padding="max_length", max_length=pipe.tokenizer.model_max_length, return_tensors="pt"
    )
    text = pipe.text_encoder(ids.input_ids)[0].to(dtype).expand(args.batch, -1, -1).contiguous()
    run = lambda: unet(latents, 500, encoder_hidden_states=text, return_dict=False)

    matrix = torch.randn(SIDE, SIDE, dtype=dtype)
    best = 2 * SIDE**3 / seconds(lambda: torch.mm(matrix, matrix))
    took = seconds(run)
    with FlopCounterMode(display=False) as counter:
        run()
    rate = counter.get_total_flops() / took
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {dtype}, batch {args.batch}")
    print(f"a pass: {1e3 * took:.1f} ms, {counter.get_total_flops() / 1e9:.1f} GFLOP in products and convolutions")
    print(f"{rate / 1e9:.0f} of {best / 1e9:.0f} GFLOP/s: {rate / best:.0%} of the rate of torch.mm")
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(5):
            run()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_cpu_time_total)
    whole = sum(row.self_cpu_time_total for row in rows)
    for row in rows[:SHOWN]:
        print(f"  {row.self_cpu_time_total / whole:5.1%}  {row.key}  ({row.count // 5} a pass)")


if __name__ == "__main__":
    main()
