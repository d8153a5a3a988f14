#!/bin/sh
# OpenVINO 2026.4.1, OpenCV 5.0.0: both read an ONNX file whose Resize has antialias = 1 (opset 18 and later; torch.onnx.export writes it for every
# resize(..., antialias=True), which is torchvision's default), and both drop that attribute. The image is made smaller by taking single
# pixels, where the file, ONNX's own reference, onnxruntime and Pillow average all pixels that a new one covers. No error, no warning. A
# classifier that was exported with its resizing is shown coarse, jagged images there, which it was not trained on. OpenVINO's own way
# in from torch (convert_model of the module) keeps the attribute.
# Compare the outputs on a large photograph before an exported model goes anywhere, or resize outside of the model.
# Seen: noise of 96 x 120 to 24 x 30, values 0 to 1: onnxruntime and Pillow within 1e-6 of the reference; OpenVINO and OpenCV .35 (linear)
# and .49 (cubic) apart at most, and as with antialias = 0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet openvino==2026.4.1 opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import cv2, numpy as np, onnx, onnxruntime, openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

HEIGHT, WIDTH, SMALL = 96, 120, (24, 30)


def resizing(mode: str, antialias: int) -> onnx.ModelProto:
    settings = {"mode": mode, "antialias": antialias, "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.5, "exclude_outside": 1}
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **settings)
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, *SMALL])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, *size]) for name, size in (("x", (HEIGHT, WIDTH)), ("y", SMALL)))
    model = helper.make_model(helper.make_graph([node], "resize", [x], [y], [sizes]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def by_onnxruntime(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": image})[0]


def by_openvino(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    core = openvino.Core()
    return core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]


def by_opencv(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    net.setInput(image, "x")
    return net.forward()


warnings.simplefilter("error")
image = np.random.default_rng(0).random((1, 1, HEIGHT, WIDTH), np.float32)
for mode, kernel in (("linear", Image.Resampling.BILINEAR), ("cubic", Image.Resampling.BICUBIC)):
    smooth, plain = resizing(mode, 1), resizing(mode, 0)
    true = ReferenceEvaluator(smooth).run(None, {"x": image})[0]
    pillow = np.asarray(Image.fromarray(image[0, 0]).resize(SMALL[::-1], kernel))
    found = {"onnxruntime": by_onnxruntime(smooth, image), "Pillow": pillow, "OpenVINO": by_openvino(smooth, image), "OpenCV": by_opencv(smooth, image)}
    apart = {name: float(abs(other - true).max()) for name, other in found.items()}
    same = [float(abs(found[name] - read(plain, image)).max()) for name, read in (("OpenVINO", by_openvino), ("OpenCV", by_opencv))]
    print(f"openvino {openvino.__version__[:8]}, opencv {cv2.__version__}, onnxruntime {onnxruntime.__version__}, {mode}, apart from ONNX's reference: "
          + ", ".join(f"{name} {x:.1e}" for name, x in apart.items()) + f"; antialias 1 beside 0: OpenVINO {same[0]:.1e}, OpenCV {same[1]:.1e}")
    assert apart["onnxruntime"] < 1e-5 and apart["Pillow"] < 1e-5
    assert apart["OpenVINO"] > 0.1 and apart["OpenCV"] > 0.1 and max(same) < 1e-5
PYTHON
