"""Build the embedded starter models: ``python tools/build_starter.py --out build/starter``.

Trains CLIP, a second CLIP with BatchNorm, the generator's text encoder, the VAE, the denoiser and the VAE's decoder once more on the web
of looks that is made of Fashion-MNIST's first 50,000 images; then packs them in half precision with the real images, measures them and writes the card. The same
command again goes on where it was killed, to the same weights. Hours on two CPU cores, minutes on a GPU; ``--minutes`` ends each
training's schedule by the clock. ``--begin PACKAGE`` takes the models of a package and trains its denoiser on, where one sitting is too
short for it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from starter import card, clip, clip_rn, data, pack, training, unet, vae

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "figment" / "starter"
TRAININGS = {
    "clip": clip.train,
    "clip_rn": clip_rn.train,
    "text": clip.train_text_encoder,
    "vae": vae.train,
    "unet": unet.train,
    "decoder": vae.refine_decoder,
}
STAGES = (*TRAININGS, "pack", "card")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/starter"), help="working folder, kept between runs")
    parser.add_argument("--data", type=Path, default=data.DEBIAN_FOLDER, help="folder of the four IDX files")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="where the finished models go")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--begin", type=Path, help="a package whose models are kept, and its denoiser trained on")
    parser.add_argument("--minutes", type=float, help="end each training's schedule by then")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = torch's own choice")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.begin:
        pack.take(args.begin, args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    for stage, train in TRAININGS.items():
        if stage in args.stages and not training.is_over(stage, args.out):
            train(args.out, args.data, device, minutes=args.minutes)
            training.end(stage, args.out)
    if "pack" in args.stages:
        pack.pack(args.out, args.data, args.package)
    if "card" in args.stages:
        card.write_card(args.package, args.out)


if __name__ == "__main__":
    main()
