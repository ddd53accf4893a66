"""Configuration of prepare, train and evaluate."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, get_args

from torchfakes_cli.errors import UsageError
from torchfakes_cli.faces.options import FaceConfig

#: Side in pixels of a new network's input: the size that facenet-pytorch's weights were trained at.
DEFAULT_INPUT_SIZE = 160
#: Choices of ``TrainConfig`` and ``PrepareConfig``.
Recipe = Literal["default", "origin"]
Sampling = Literal["balanced", "plain"]
OptimizerName = Literal["adamw", "adam", "sgd"]
Schedule = Literal["cosine", "linear", "constant"]
Augment = Literal["none", "light", "strong"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
TrackerName = Literal["tensorboard", "wandb"]
ImageFormat = Literal["png", "jpg"]
#: Choices of ``EvaluateConfig``.
SplitName = Literal["train", "val", "test", "all"]
CalibrationFit = Literal["platt", "temperature"]


#: Margin of new crops. Windows of .75 to .85 of a crop with the margin 1.3 scored best: about the box itself.
PREPARE_MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class PrepareConfig:
    """Settings of ``prepare``.

    Attributes:
        out: folder of the crops and their manifest.
        frames_per_video: number of samples per video, spread evenly.
        faces: face detection and crops; ``faces.blur_threshold`` only marks crops, it drops none.
        duplicate_threshold: crops of a person that differ by less than this, in gray levels, are marked except for one.
        balance: choose frames so that reals and fakes are about equal in number; otherwise all crops without a flaw.
        reals: folders of further genuine stills or videos.
        split: ``groups`` splits by a hash of people and footage, ``official`` follows the lists in the corpus,
            ``official:DIR`` those in a folder; anything else is the path of a CSV.
        groups: CSV of videos of the same person or footage; None if nothing is known beyond the corpus.
        val: share of the groups for validation.
        test: share of the groups for testing.
        seed: seed of the split.
        methods: use only fakes made by these; empty for all.
        compression: use only this compression of FaceForensics++; None for all.
        limit: maximum number of files of each collection and method, for a trial; None for all.
        jobs: number of processes; None for one per core.
        image_format: ``png`` or ``jpg``.
        size: maximum side of a crop in pixels; larger crops are reduced.
        force: delete the crops of an earlier run in ``out``.
    """

    out: str = "crops"
    frames_per_video: int = 32
    faces: FaceConfig = field(default_factory=lambda: FaceConfig(margin=PREPARE_MARGIN))
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
    image_format: ImageFormat = "png"
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
        if self.image_format not in get_args(ImageFormat):
            raise UsageError("crops are written as png or jpg")
        if self.size < 64:
            raise UsageError("crops under 64 pixels show too little: choose a size of 64 or more")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How crops become a detector.

    Attributes:
        out: folder of the checkpoints and the log.
        name: of the detector, shown beside every verdict.
        backbone: ``InceptionResnetV1``, ``EfficientNetLite0`` or ``timm:NAME``.
        start: weights to start from: ``vggface2`` (facenet-pytorch's face recognition weights, fetched once),
            ``imagenet`` (of the backbone's package), ``scratch``, the path or name of a checkpoint of the same
            backbone, or a file with the tensors of its trunk. None for ``vggface2`` with InceptionResnetV1, else
            ``imagenet``.
        teacher: path or name of a checkpoint whose features and logits the network learns to match; None for none.
        feature_epochs: with a teacher, share of the training whose loss is mostly that of the features.
        epochs: how many times ``samples_per_epoch`` are seen.
        samples_per_epoch: crops an epoch; None for as many as the balanced training crops.
        batch: crops an update, over all processes.
        micro_batch: crops that go through the network at once in a process, whose gradients add up to those of the
            batch; None for all. Halved when memory runs out.
        sampling: ``balanced`` draws pairs of a real face and a fake one, person by person; ``plain`` goes through
            the balanced crops in random order.
        mix: shares of the pairs by method or collection; the others share the rest by the square root of their sizes.
        optimizer: ``adamw``, ``adam`` or ``sgd`` (with momentum).
        learning_rate: at its highest; None for the optimizer's usual one, see ``training.fit.optimizer``.
        schedule: of the learning rate after its rise: ``cosine``, ``linear`` (both fall to a hundredth) or
            ``constant``.
        warm_up: share of the steps over which the learning rate rises.
        weight_decay: of the optimizer.
        dropout: share of the pooled features left out; None for the backbone's usual one.
        input_size: side of the network's input in pixels; None for the start's own, or 160.
        sizes: sides of the input in pixels, each for an equal share of the training; the last one is the detector's.
            Empty for ``input_size`` throughout.
        unit_range: give the network values from 0 to 1, as the origin did, in place of the standardised ones that
            facenet-pytorch's weights were trained with. A checkpoint to go on from keeps its own.
        self_blend: share of the fakes that are made from genuine faces while training.
        augment: ``none``, ``light`` or ``strong``.
        ranking: weight of the loss that wants a fake to score above the real face it came with.
        ema: decay of the running average of the weights that is validated and kept; 0 for the weights themselves.
        precision: ``auto`` (bfloat16 where the machine computes in it), ``bf16``, ``fp16`` (on CUDA) or ``fp32``.
        compile: let torch.compile make the network faster, on CUDA.
        frames_per_video: validation scores at most this many frames of a video.
        stop_on_collapse: give up when so many epochs in a row ended with one answer for all; 0 for never.
        workers: processes that read and augment crops; None chooses by the number of cores.
        seed: decides the order, the augmentation, the dropout and random weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        track: further places for the figures: ``tensorboard``, ``wandb``.
        save_minutes: besides after each epoch, what resuming needs is saved this often; 0 for after epochs alone.
        resume: go on with the training that was interrupted in ``out``.
        force: replace what an earlier training left in ``out``.
    """

    out: str = "runs/detector"
    name: str = "detector"
    backbone: str = "InceptionResnetV1"
    start: str | None = None
    teacher: str | None = None
    feature_epochs: float = 0.5
    epochs: int = 20
    samples_per_epoch: int | None = None
    batch: int = 16
    micro_batch: int | None = None
    sampling: str = "balanced"
    mix: dict[str, float] = field(default_factory=dict)
    optimizer: str = "adamw"
    learning_rate: float | None = None
    schedule: str = "cosine"
    warm_up: float = 0.05
    weight_decay: float = 0.01
    dropout: float | None = None
    input_size: int | None = None
    sizes: tuple[int, ...] = ()
    unit_range: bool = False
    self_blend: float = 0.25
    augment: str = "strong"
    ranking: float = 0.5
    ema: float = 0.998
    precision: str = "auto"
    compile: bool = False
    frames_per_video: int = 8
    stop_on_collapse: int = 0
    workers: int | None = None
    seed: int = 0
    device: str = "auto"
    track: tuple[str, ...] = ()
    save_minutes: float = 10.0
    resume: bool = False
    force: bool = False

    @property
    def weights(self) -> str:
        """The weights to start from, the backbone's usual ones where none are given."""
        return self.start or ("vggface2" if self.backbone == "InceptionResnetV1" else "imagenet")

    def __post_init__(self) -> None:
        choices: dict[str, Any] = {
            "sampling": Sampling,
            "optimizer": OptimizerName,
            "schedule": Schedule,
            "augment": Augment,
            "precision": Precision,
        }
        for name, choice in choices.items():
            known = get_args(choice)
            if getattr(self, name) not in known:
                raise UsageError(f"the {name} is {', '.join(known[:-1])} or {known[-1]}, not {getattr(self, name)!r}")
        trackers = get_args(TrackerName)
        if unknown := sorted(set(self.track) - set(trackers)):
            raise UsageError(f"there is no tracker called {unknown[0]!r}", advice=f"Choose {' or '.join(trackers)}.")
        shares = {
            "self-blended share": self.self_blend,
            "warm-up": self.warm_up,
            "share of the feature epochs": self.feature_epochs,
            **{f"share of {name} in the mix": share for name, share in self.mix.items()},
            "sum of the mix": round(sum(self.mix.values()), 9),
        }
        for words, share in shares.items():
            if not 0 <= share <= 1:
                raise UsageError(f"the {words} must lie between 0 and 1")
        below_one = {
            "dropout": self.dropout or 0.0,
            "weight decay": self.weight_decay,
            "decay of the running average": self.ema,
        }
        for words, share in below_one.items():
            if not 0 <= share < 1:
                raise UsageError(f"the {words} must lie in [0, 1)")
        from_zero = {
            "weight of the ranking loss": self.ranking,
            "minutes between two saves": self.save_minutes,
            "seed": self.seed,
            "number of workers": self.workers or 0,
            "number of collapsed epochs": self.stop_on_collapse,
        }
        for words, number in from_zero.items():
            if not 0 <= number < inf:
                raise UsageError(f"the {words} must be a number from 0 up")
        if self.epochs < 1:
            raise UsageError("training takes at least one epoch")
        if self.batch < 4 or self.batch % 2:
            raise UsageError("a batch holds an even number of crops, 4 or more: half real, half fake")
        if self.micro_batch is not None and (self.micro_batch < 2 or self.micro_batch % 2):
            raise UsageError("a micro-batch holds an even number of crops, 2 or more")
        if self.samples_per_epoch is not None and self.samples_per_epoch < self.batch:
            raise UsageError("an epoch must hold at least one batch")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UsageError("the learning rate must lie between 0 and 1")
        if not all(75 <= size <= 1024 for size in (*self.sizes, self.input_size or 75)):
            raise UsageError("the network takes pictures of 75 to 1024 pixels a side")
        if self.frames_per_video < 1:
            raise UsageError("validation needs at least one frame a video")
        self._check_combinations()

    def _check_combinations(self) -> None:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise UsageError("the sizes of the input must grow", advice="Give them as in --sizes 96,128,160.")
        if self.sizes and self.input_size not in (None, self.sizes[-1]):
            raise UsageError("the last of --sizes is the input size", advice="Leave --input-size out.")
        if self.sampling == "plain" and self.ranking:
            raise UsageError("plain sampling has no pairs to rank", advice="Give --ranking 0 with it.")
        if self.sampling == "plain" and self.self_blend:
            raise UsageError("plain sampling blends no faces", advice="Give --self-blend 0 with it.")
        if self.sampling == "plain" and self.mix:
            raise UsageError("plain sampling takes all crops alike", advice="Leave --mix out.")
        if self.resume and self.force:
            raise UsageError("a training is either resumed or replaced, not both")


def train_recipe(name: str) -> TrainConfig:
    """A whole way to train, from which single settings may then differ.

    Args:
        name: ``default``, or ``origin`` for the transfer learning of the bootcamp project this one grew from: VGGFace2
            weights, one logit, plain cross-entropy, batches of 16 from the balanced crops in random order, 80 epochs,
            256 px with values from 0 to 1, and none of what came later. What it left unsaid is as in
            facenet-pytorch's example: Adam at a constant rate.

    Raises:
        UsageError: there is no such recipe.
    """
    if name == "default":
        return TrainConfig()
    if name != "origin":
        raise UsageError(f"there is no recipe called {name!r}", advice=f"Choose {' or '.join(get_args(Recipe))}.")
    return TrainConfig(
        start="vggface2",
        epochs=80,
        batch=16,
        sampling="plain",
        optimizer="adam",
        schedule="constant",
        warm_up=0.0,
        weight_decay=0.0,
        input_size=256,
        unit_range=True,
        self_blend=0.0,
        augment="none",
        ranking=0.0,
        ema=0.0,
    )


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """How detectors are measured on crops or corpora.

    Attributes:
        out: folder of the report, the plots and the tables of scores.
        models: paths of the detectors; the one that ships if empty.
        split: ``train``, ``val``, ``test`` or ``all``.
        frames_per_video: at most so many crops of each person in each video, spread evenly.
        robustness: kinds of damage to try, or ``all``, see :mod:`torchfakes_cli.training.evaluate.perturb`; none if
            empty.
        levels: of each kind, from 1 (mild) to 5 (severe).
        robustness_frames: as ``frames_per_video``, for the damaged crops.
        rounds: of the bootstrap that gives the intervals.
        bins: of the reliability plot and of the calibration error, equally wide.
        calibrate: write the one detector, calibrated on this split, to this path; None for no new calibration.
        calibration: ``platt`` (slope and intercept) or ``temperature`` (slope only).
        false_alarms: the new thresholds call at most this share of further reals fake.
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
        if self.split not in get_args(SplitName):
            raise UsageError("the split is train, val, test or all")
        if min(self.frames_per_video, self.robustness_frames) < 1:
            raise UsageError("at least one crop of each video must be scored")
        if not self.levels or not set(self.levels) <= {1, 2, 3, 4, 5}:
            raise UsageError("the levels of damage go from 1 to 5")
        if not 100 <= self.rounds <= 100_000:
            raise UsageError("the bootstrap takes 100 to 100000 rounds")
        if not 2 <= self.bins <= 100:
            raise UsageError("the reliability plot has 2 to 100 bins")
        if self.calibration not in get_args(CalibrationFit):
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
