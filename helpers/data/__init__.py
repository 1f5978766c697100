"""Data sets, and a loader for those that fit in memory.

``MNIST``, ``CIFAR10``, ``Dogs`` and ``Faces`` work like torchvision's data sets. MNIST and the
"small" size of the others come with the kit and need no network. ``Loader`` gives batches of them;
``mnist_tensors``, ``cifar10_tensors``, ``dog_tensors`` and ``face_tensors`` give tensors of images.
"""

from helpers.data.cifar10 import (
    CIFAR10,
    CIFAR10_CLASSES,
    cifar10_tensors,
    read_sample,
    write_sample,
)
from helpers.data.dogs import Dogs, dog_tensors, split_dogs
from helpers.data.face_drawing import FACE_HEIGHT, FACE_WIDTH, draw_face
from helpers.data.faces import Faces, face_tensors
from helpers.data.loader import Loader
from helpers.data.mnist import MNIST, mnist_tensors, write_idx
from helpers.data.source import ENVIRONMENT, FILES, DataError

__all__ = [
    "CIFAR10",
    "CIFAR10_CLASSES",
    "ENVIRONMENT",
    "FACE_HEIGHT",
    "FACE_WIDTH",
    "FILES",
    "MNIST",
    "DataError",
    "Dogs",
    "Faces",
    "Loader",
    "cifar10_tensors",
    "dog_tensors",
    "draw_face",
    "face_tensors",
    "mnist_tensors",
    "read_sample",
    "split_dogs",
    "write_idx",
    "write_sample",
]
