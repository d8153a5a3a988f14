"""Build the embedded starter models: ``python tools/build_starter.py --out build/starter``.

Trains CLIP, its twin with BatchNorm, the VAE, the denoiser and the VAE's decoder once more on Fashion-MNIST's ``web`` split, one after the other, each
from its own checkpoint if there is one; then packs them in half precision with the real images, measures them and writes
the card. ``--minutes`` ends each training's schedule by the clock: 14 for CLIP and the VAE, 10 for the twin (on one core), 70 for the denoiser, 6 for the
decoder made the shipped one on two CPU cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from starter import card, clip, clip_rn, data, pack, unet, vae

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "figment" / "starter"
STAGES = ("clip", "clip_rn", "vae", "unet", "decoder", "pack", "card")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/starter"), help="working folder, kept between runs")
    parser.add_argument("--data", type=Path, default=data.DEBIAN_FOLDER, help="folder of the four IDX files")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="where the finished models go")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end each training's schedule by then")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = torch's own choice")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    if "clip" in args.stages:
        clip.train(args.out, args.data, device, minutes=args.minutes)
    if "clip_rn" in args.stages:
        clip_rn.train(args.out, args.data, device, minutes=args.minutes)
    if "vae" in args.stages:
        vae.train(args.out, args.data, device, minutes=args.minutes)
    if "unet" in args.stages:
        unet.train(args.out, args.data, device, minutes=args.minutes)
    if "decoder" in args.stages:
        vae.refine_decoder(args.out, args.data, device, minutes=args.minutes)
    if "pack" in args.stages:
        pack.pack(args.out, args.data, args.package)
    if "card" in args.stages:
        card.write_card(args.package, args.out)


if __name__ == "__main__":
    main()
