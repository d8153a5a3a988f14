"""Training a latent-diffusion denoiser: on images and captions, or to do in few steps what it does in many."""
