"""The straightforward pipeline that benchmarks compare with, as a program of its own.

PyAV decodes every frame, facenet-pytorch's MTCNN looks at full frames, and InceptionResnetV1 scores in float32, one
frame after the other.

    python -m tests.benchmark.reference clip.mp4 RATE MIN_FACE [DEVICE]
"""

from __future__ import annotations

import sys

import av
import torch
from facenet_pytorch import MTCNN, InceptionResnetV1, fixed_image_standardization


def scan(path: str, fps: float, min_face: int, device: str = "cpu") -> list[float]:
    """Logits of all faces in samples of ``fps`` frames a second."""
    finder = MTCNN(keep_all=True, min_face_size=min_face, image_size=160, post_process=False, device=device)
    network = InceptionResnetV1(classify=True, num_classes=1).eval().to(device)
    logits = []
    with av.open(path) as container, torch.inference_mode():
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        wanted = 0.0
        for frame in container.decode(stream):
            if frame.time is None or frame.time < wanted:
                continue
            wanted += 1 / fps
            faces = finder(frame.to_ndarray(format="rgb24"))
            if faces is not None:
                logits += network(fixed_image_standardization(faces).to(device)).flatten().tolist()
    return logits


if __name__ == "__main__":
    print(len(scan(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])), "faces")
