"""Finding faces, cutting them out, judging their sharpness and following them through a shot.

The only room that knows the face detector. Importing it loads neither torch nor the detector: take that from
``torchfakes_cli.faces.cascade`` when a face has to be found.
"""

from torchfakes_cli.faces.crops import crop_corner, crop_face, crop_origin, sharpness
from torchfakes_cli.faces.follow import FaceFollower
from torchfakes_cli.faces.tracking import Tracker

__all__ = ["FaceFollower", "Tracker", "crop_corner", "crop_face", "crop_origin", "sharpness"]
