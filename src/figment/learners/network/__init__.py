"""A network trained on images: any architecture of timm, from scratch or pre-trained, on generated images, real ones or both."""
