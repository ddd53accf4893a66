"""Every default, once. Options read them; checkpoints and reports embed them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import inf

from torchfakes_cli.errors import UsageError

#: Side in pixels to which a grey crop is resized before its sharpness is measured, so that the threshold means the
#: same for a small face and a large one.
SHARPNESS_SIZE = 160
#: Side in pixels of a new network's input: the size that facenet-pytorch's weights were trained at.
DEFAULT_INPUT_SIZE = 160


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Which frames of a video are looked at.

    Attributes:
        fps: samples a second; None chooses by length (see ``frames``).
        frames: with ``fps`` None, this many samples spread evenly over a clip of up to ``frames`` seconds (or over any
            clip where ``frames_fixed``), and one a second beyond that.
        frames_fixed: the user asked for exactly ``frames`` samples.
        start_s: nothing before this time is looked at.
        end_s: nothing from this time on is looked at; None for the end of the video.
    """

    fps: Fraction | None = None
    frames: int = 32
    frames_fixed: bool = False
    start_s: float = 0.0
    end_s: float | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and self.fps <= 0:
            raise UsageError("the sampling rate must be above 0")
        if self.frames < 1:
            raise UsageError("at least one frame must be sampled")
        if self.fps is not None and self.frames_fixed:
            raise UsageError("give either a rate or a number of frames, not both")
        if self.start_s < 0:
            raise UsageError("the start must not lie before 0 seconds")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UsageError("the end must lie after the start")


@dataclass(frozen=True, slots=True)
class FaceConfig:
    """How faces are found and cut out.

    Attributes:
        min_face: smallest side of a face looked for, in pixels of the frame.
        confidence: faces below this detector confidence are dropped.
        margin: factor by which a face's box grows into its crop.
        blur_threshold: a crop whose variance of the Laplacian is below gets no score.
    """

    min_face: int = 40
    confidence: float = 0.95
    margin: float = 1.3
    blur_threshold: float = 30.0

    @property
    def smallest(self) -> float:
        """Side in pixels from which a face counts: boxes of one face differ by a fifth from frame to frame."""
        return 0.8 * self.min_face

    def __post_init__(self) -> None:
        if self.min_face < 12:
            raise UsageError("faces under 12 pixels can't be found: choose a minimum face of 12 or more")
        if not 0 < self.confidence < 1:
            raise UsageError("the face confidence must lie between 0 and 1")
        if not 0.5 <= self.margin <= 4:
            raise UsageError("the crop margin is a factor between 0.5 and 4")
        if not 0 <= self.blur_threshold < inf:
            raise UsageError("the blur threshold must be a number from 0 up")


@dataclass(frozen=True, slots=True)
class VerdictConfig:
    """The policy from face scores to a verdict.

    Attributes:
        fake_above: from this probability on a video is called fake; None takes the detector's own threshold.
        real_below: below this probability it is called real; None takes the detector's own; between is inconclusive.
        min_faces: a track decides only with this many scored faces ("lasting").
        trim: share of a track's highest and of its lowest logits left out of its mean.
    """

    fake_above: float | None = None
    real_below: float | None = None
    min_faces: int = 3
    trim: float = 0.1

    def __post_init__(self) -> None:
        for value in (self.fake_above, self.real_below):
            if value is not None and not 0 <= value <= 1:
                raise UsageError("a threshold is a probability between 0 and 1")
        if self.fake_above is not None and self.real_below is not None and self.real_below > self.fake_above:
            raise UsageError("the threshold for real must not exceed the one for fake")
        if self.min_faces < 1:
            raise UsageError("a track needs at least one face")
        if not 0 <= self.trim < 0.5:
            raise UsageError("the trimmed share must lie in [0, 0.5)")


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Everything that decides what a scan says, besides the detector.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        batch_pixels: pixels of full frames held at once, so that memory doesn't grow with length or size.
        batch_frames: frames detected at once, at most.
        timeout_s: a file is given up when its decoder makes no progress for so many seconds. Time that grows with the
            work is no hang: each of the file's frames may add half a second.
        memory_mb: MiB that decoding one file may take, beyond what its process holds from the start; held to on Linux.
    """

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    device: str = "auto"
    batch_pixels: int = 16 * 1920 * 1080
    batch_frames: int = 16
    timeout_s: float = 60.0
    memory_mb: int = 2048

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise UsageError("the timeout must be above 0 seconds")
        if self.memory_mb < 64:
            raise UsageError("decoding takes 64 MiB of memory or more: choose a higher limit")


@dataclass(frozen=True, slots=True)
class PrepareConfig:
    """How a corpus becomes crops.

    Attributes:
        out: folder of the crops and their manifest.
        frames_per_video: samples of each video, spread evenly.
        faces: how faces are found and cut out; ``faces.blur_threshold`` only marks crops, it drops none.
        duplicate_threshold: marks all but one of the crops of a person that differ by less than so many grey levels.
        balance: choose frames so that reals and fakes are about as many; else all that nothing speaks against.
        reals: folders of further genuine stills or videos.
        split: ``groups`` divides by a hash of people and footage, ``official`` follows the lists that lie in the
            corpus, ``official:DIR`` those in a folder; anything else is the path of a CSV.
        groups: CSV that names videos of the same person or footage; None if nothing is known beyond the corpus.
        val: share of the groups kept for validation.
        test: share of the groups kept for testing.
        seed: decides who lands in which split.
        methods: only fakes made by these; all if empty.
        compression: only this compression of FaceForensics++; all if None.
        limit: at most this many files of each collection and method, for a trial; all if None.
        jobs: processes at work; None for one a core.
        image_format: ``png`` or ``jpg``.
        size: crops with a longer side are reduced to it, in pixels; none is enlarged.
        force: drop what an earlier run with other settings left in ``out``.
    """

    out: str = "crops"
    frames_per_video: int = 32
    faces: FaceConfig = field(default_factory=FaceConfig)
    duplicate_threshold: float = 1.0
    balance: bool = True
    reals: tuple[str, ...] = ()
    split: str = "groups"
    groups: str | None = None
    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    methods: tuple[str, ...] = ()
    compression: str | None = None
    limit: int | None = None
    jobs: int | None = None
    image_format: str = "png"
    size: int = 256
    force: bool = False

    def __post_init__(self) -> None:
        if self.frames_per_video < 1:
            raise UsageError("at least one frame of each video must be sampled")
        if not 0 <= self.duplicate_threshold < inf:
            raise UsageError("the threshold for near duplicates must be a number from 0 up")
        if not self.split:
            raise UsageError("the split is groups, official, official:DIR or a CSV")
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise UsageError("the shares for validation and test must not be negative and must leave some for training")
        if self.limit is not None and self.limit < 1:
            raise UsageError("a limit must be at least 1")
        if self.jobs is not None and self.jobs < 1:
            raise UsageError("at least one process must work")
        if self.image_format not in ("png", "jpg"):
            raise UsageError("crops are written as png or jpg")
        if self.size < 64:
            raise UsageError("crops under 64 pixels show too little: choose a size of 64 or more")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How crops become a detector.

    Attributes:
        out: folder of the checkpoints and the log.
        name: of the detector, shown beside every verdict.
        start: ``vggface2`` (facenet-pytorch's face recognition weights, fetched once), ``scratch``, or the path of a
            checkpoint to go on from.
        epochs: how many times ``samples_per_epoch`` are seen.
        samples_per_epoch: crops an epoch, half of them fake; None for as many as the balanced training crops.
        batch: crops a step, half of them fake.
        learning_rate: at its highest; None for 1e-3 from scratch and 1e-4 otherwise.
        weight_decay: of AdamW.
        dropout: share of the pooled features left out.
        input_size: side of the network's input in pixels; None for the start's own, or 160.
        self_blend: share of the fakes that are made from genuine faces while training.
        augment: ``none``, ``light`` or ``strong``.
        ramp: share of the training over which what destroys detail grows to its full strength.
        ranking: weight of the loss that wants a fake to score above the real face it came with.
        ema: decay of the running average of the weights that is validated and kept; 0 for the weights themselves.
        frames_per_video: validation looks at so many frames of a video, at most.
        workers: processes that read and augment crops; None chooses by the number of cores.
        seed: decides the order, the augmentation and random weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        force: replace what an earlier training left in ``out``.
    """

    out: str = "runs/detector"
    name: str = "detector"
    start: str = "vggface2"
    epochs: int = 20
    samples_per_epoch: int | None = None
    batch: int = 16
    learning_rate: float | None = None
    weight_decay: float = 0.01
    dropout: float = 0.6
    input_size: int | None = None
    self_blend: float = 0.0
    augment: str = "light"
    ramp: float = 0.4
    ranking: float = 0.5
    ema: float = 0.998
    frames_per_video: int = 8
    workers: int | None = None
    seed: int = 0
    device: str = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError("training takes at least one epoch")
        if self.batch < 4 or self.batch % 2:
            raise UsageError("a batch holds an even number of crops, 4 or more: half real, half fake")
        if self.samples_per_epoch is not None and self.samples_per_epoch < self.batch:
            raise UsageError("an epoch must hold at least one batch")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError("the learning rate must lie between 0 and 1")
        if not 0 <= self.dropout < 1:
            raise UsageError("the dropout must lie in [0, 1)")
        if self.input_size is not None and not 75 <= self.input_size <= 1024:
            raise UsageError("the network takes pictures of 75 to 1024 pixels a side")
        if not 0 <= self.self_blend <= 1:
            raise UsageError("the self-blended share must lie between 0 and 1")
        if self.augment not in ("none", "light", "strong"):
            raise UsageError("the augmentation is none, light or strong")
        if not 0 <= self.ramp <= 1:
            raise UsageError("the ramp is a share between 0 and 1")
        if not 0 <= self.ranking < inf:
            raise UsageError("the weight of the ranking loss must be a number from 0 up")
        if not 0 <= self.weight_decay < 1:
            raise UsageError("the weight decay must lie in [0, 1)")
        if self.seed < 0:
            raise UsageError("the seed must not be negative")
        if not 0 <= self.ema < 1:
            raise UsageError("the decay of the running average must lie in [0, 1)")
        if self.frames_per_video < 1:
            raise UsageError("validation needs at least one frame a video")
        if self.workers is not None and self.workers < 0:
            raise UsageError("the number of workers must not be negative")


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """How detectors are measured on crops or corpora.

    Attributes:
        out: folder of the report, the plots and the tables of scores.
        models: paths of the detectors; the one that ships if empty.
        split: ``train``, ``val``, ``test`` or ``all``.
        frames_per_video: at most so many crops of each person in each video, spread evenly.
        robustness: kinds of damage to try, see :mod:`torchfakes_cli.training.perturb`, or ``all``; none if empty.
        levels: of each kind, from 1 (mild) to 5 (severe).
        robustness_frames: as ``frames_per_video``, for the damaged crops.
        rounds: of the bootstrap that gives the intervals.
        bins: of the reliability plot and of the calibration error, equally wide.
        calibrate: write the one detector, calibrated on this split, to this path; None for no new calibration.
        calibration: ``platt`` (slope and intercept) or ``temperature`` (slope only).
        false_alarms: the new thresholds call at most this share of the reals fake.
        missed_fakes: they call at most this share of the fakes real.
        folds: of the cross-validation that says what a new calibration is worth.
        seed: decides the draws of the bootstrap, the folds and the noise.
        jobs: processes that cut faces out of a corpus; None for one a core.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        force: write into a folder that holds other files, and replace a checkpoint that is there.
    """

    out: str = "evaluation"
    models: tuple[str, ...] = ()
    split: str = "test"
    frames_per_video: int = 32
    robustness: tuple[str, ...] = ()
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    robustness_frames: int = 8
    rounds: int = 1000
    bins: int = 10
    calibrate: str | None = None
    calibration: str = "platt"
    false_alarms: float = 0.05
    missed_fakes: float = 0.25
    folds: int = 5
    seed: int = 0
    jobs: int | None = None
    device: str = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        if self.split not in ("train", "val", "test", "all"):
            raise UsageError("the split is train, val, test or all")
        if min(self.frames_per_video, self.robustness_frames) < 1:
            raise UsageError("at least one crop of each video must be scored")
        if not self.levels or not set(self.levels) <= {1, 2, 3, 4, 5}:
            raise UsageError("the levels of damage go from 1 to 5")
        if not 100 <= self.rounds <= 100_000:
            raise UsageError("the bootstrap takes 100 to 100000 rounds")
        if not 2 <= self.bins <= 100:
            raise UsageError("the reliability plot has 2 to 100 bins")
        if self.calibration not in ("platt", "temperature"):
            raise UsageError("the calibration is platt or temperature")
        if not (0 <= self.false_alarms < 1 and 0 <= self.missed_fakes < 1):
            raise UsageError("the shares of false alarms and of missed fakes must lie in [0, 1)")
        if self.folds < 2:
            raise UsageError("cross-validation takes at least two folds")
        if self.seed < 0:
            raise UsageError("the seed must not be negative")
        if self.jobs is not None and self.jobs < 1:
            raise UsageError("at least one process must work")
        if self.calibrate is not None and self.split in ("train", "all"):
            raise UsageError(
                "a calibration must not be fitted on what the detector was trained on",
                advice="Calibrate on --split val, and measure on test.",
            )
        if self.calibrate is not None and len(self.models) > 1:
            raise UsageError("one detector is calibrated at a time", advice="Give a single --model.")
