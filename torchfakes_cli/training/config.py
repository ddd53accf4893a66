"""Configuration of prepare, train and evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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

#: Margin of new crops, that of the detector that ships: the box itself scored best.
PREPARE_MARGIN = 1.0
#: Upper bound of a number that has none; infinity itself is refused.
_ANY = 1e18
#: Options that are not called as the field.
_OPTIONS = {
    "batch": "--batch-size",
    "calibration": "--fit",
    "false_alarms": "--target-fpr",
    "learning_rate": "--lr",
    "missed_fakes": "--target-fnr",
    "out": "--output",
    "rounds": "--bootstrap",
    "start": "--weights",
    "track": "--logger",
    "warm_up": "--warmup",
}


def option_of(name: str) -> str:
    """The command-line option of a field."""
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")


def _check(config: object, choices: Mapping[str, Any], ranges: Mapping[tuple[float, float], str]) -> None:
    """Check fields with choices (one or a tuple), and the fields in each range, whose bounds are included."""
    for name, choice in choices.items():
        given, known = getattr(config, name), get_args(choice)
        if unknown := [one for one in ((given,) if isinstance(given, str) else given) if one not in known]:
            raise UsageError(f"{option_of(name)} is {', '.join(known[:-1])} or {known[-1]}, not {unknown[0]!r}")
    for name, low, high in [(name, *bounds) for bounds, names in ranges.items() for name in names.split()]:
        number = getattr(config, name)
        if number is not None and not low <= number <= high:
            allowed = f"at least {low:g}" if high == _ANY else f"between {low:g} and {high:g}"
            raise UsageError(f"{option_of(name)} must be {allowed}, not {number:g}")


@dataclass(frozen=True, slots=True)
class PrepareConfig:
    """How a corpus becomes crops.

    Attributes:
        out: folder of the crops and their manifest.
        frames_per_video: samples of each video, spread evenly.
        faces: detection and cropping of faces; ``faces.blur_threshold`` only marks crops.
        duplicate_threshold: difference in gray levels below which crops of a person are marked as duplicates of one.
        balance: choose about as many real as fake frames; else all flawless ones.
        reals: folders of further real stills or videos.
        split: ``groups`` divides by a hash of people and footage, ``official`` follows the lists in the corpus,
            ``official:DIR`` those in a folder; anything else is the path of a CSV.
        groups: CSV that names videos of the same person or footage; None if nothing is known beyond the corpus.
        val: share of the groups in validation.
        test: share of the groups in the test set.
        seed: seed of the split.
        methods: methods of the fakes to take; all if empty.
        compression: compression of FaceForensics++ to take; all if None.
        limit: largest number of files of each collection and method, for a trial; all if None.
        jobs: number of processes; None for one per core.
        image_format: ``png`` or ``jpg``.
        size: largest side of a crop in pixels; larger ones are reduced.
        force: delete what an earlier run with other settings left in ``out``.
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
        _check(
            self,
            {"image_format": ImageFormat},
            {
                (1, _ANY): "frames_per_video limit jobs",
                (0, _ANY): "duplicate_threshold",
                (0, 1): "val test",
                (64, _ANY): "size",
            },
        )
        if not self.split:
            raise UsageError("the split is groups, official, official:DIR or a CSV")
        if self.val + self.test >= 1:
            raise UsageError("the shares for validation and test must leave some for training")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How crops become a detector.

    Attributes:
        out: folder of the checkpoints and the log.
        name: name of the detector, shown beside every verdict.
        backbone: ``InceptionResnetV1``, ``EfficientNetLite0`` or ``timm:NAME``; None for that of the checkpoint in
            ``start``, else ``InceptionResnetV1``.
        start: initial weights: ``vggface2`` (facenet-pytorch's face recognition weights, fetched once), ``imagenet``
            (of the backbone's package), ``scratch``, the path or name of a checkpoint, or a file with the tensors of
            the backbone's trunk. None for ``vggface2`` with InceptionResnetV1, else ``imagenet``.
        teacher: path or name of a checkpoint whose features and logits the network learns to match; None for none.
        feature_epochs: with a teacher, share of the training in which the loss of the features weighs most.
        epochs: number of epochs, each of ``samples_per_epoch`` crops.
        samples_per_epoch: crops per epoch; None for as many as the balanced training crops.
        batch: crops per update, over all processes.
        micro_batch: crops of a batch that go through the network at once; None for all. Halved when memory runs out.
        sampling: ``balanced`` (pairs of a real face and a fake one, person by person) or ``plain`` (random order).
        mix: shares of the pairs by method or collection; the others share the rest by the square root of their sizes.
        optimizer: ``adamw``, ``adam`` or ``sgd`` (with momentum).
        learning_rate: peak learning rate; None for the optimizer's usual one.
        schedule: learning rate after the warm-up: ``cosine``, ``linear`` (both fall to a hundredth) or ``constant``.
        warm_up: share of the updates in which the learning rate rises.
        weight_decay: weight decay of the optimizer.
        dropout: share of the pooled features left out; None for the backbone's usual one.
        input_size: side of the network's input in pixels; None for the start's own, or 160.
        sizes: growing sides of the input, each for an equal share of the training; empty for ``input_size`` alone.
        unit_range: give the network values from 0 to 1 instead of standardised ones; a start keeps its own.
        self_blend: share of the fakes that are blended from real faces.
        augment: ``none``, ``light`` or ``strong``.
        ranking: weight of the loss that wants a fake to score above the real face of its pair.
        ema: decay of the moving average of the weights that is validated and kept; 0 for the weights themselves.
        precision: ``auto`` (bfloat16 where the machine computes in it), ``bf16``, ``fp16`` (on CUDA) or ``fp32``.
        compile: speed the network up with torch.compile, on CUDA.
        frames_per_video: largest number of frames of a video in validation.
        stop_on_collapse: epochs in a row with one answer for all faces after which training stops; 0 for never.
        workers: processes that read and augment crops; None chooses by the number of cores.
        seed: seed of the order, the augmentation, the dropout and random weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        track: further loggers: ``tensorboard``, ``wandb``.
        save_minutes: interval at which the state is saved besides after each epoch; 0 for after epochs alone.
        resume: continue the interrupted training in ``out``.
        force: replace an earlier training in ``out``.
    """

    out: str = "runs/detector"
    name: str = "detector"
    backbone: str | None = None
    start: str | None = None
    teacher: str | None = None
    feature_epochs: float = 0.5
    epochs: int = 20
    samples_per_epoch: int | None = None
    batch: int = 16
    micro_batch: int | None = None
    sampling: Sampling = "balanced"
    mix: dict[str, float] = field(default_factory=dict)
    optimizer: OptimizerName = "adamw"
    learning_rate: float | None = None
    schedule: Schedule = "cosine"
    warm_up: float = 0.05
    weight_decay: float = 0.01
    dropout: float | None = None
    input_size: int | None = None
    sizes: tuple[int, ...] = ()
    unit_range: bool = False
    self_blend: float = 0.25
    augment: Augment = "strong"
    ranking: float = 0.5
    ema: float = 0.998
    precision: Precision = "auto"
    compile: bool = False
    frames_per_video: int = 8
    stop_on_collapse: int = 0
    workers: int | None = None
    seed: int = 0
    device: str = "auto"
    track: tuple[TrackerName, ...] = ()
    save_minutes: float = 10.0
    resume: bool = False
    force: bool = False

    @property
    def weights(self) -> str:
        """The weights to start from, the backbone's usual ones if none are given."""
        return self.start or ("vggface2" if self.backbone in (None, "InceptionResnetV1") else "imagenet")

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "sampling": Sampling,
                "optimizer": OptimizerName,
                "schedule": Schedule,
                "augment": Augment,
                "precision": Precision,
                "track": TrackerName,
            },
            {
                (0, 1): "feature_epochs warm_up weight_decay self_blend",
                (1, _ANY): "epochs frames_per_video",
                (4, _ANY): "batch",
                (2, _ANY): "micro_batch",
                (1e-12, 1): "learning_rate",
                (0, 0.99): "dropout",
                (75, 1024): "input_size",
                (0, _ANY): "ranking stop_on_collapse workers seed save_minutes",
                (0, 0.999999): "ema",
            },
        )
        if min(self.mix.values(), default=0) < 0 or round(sum(self.mix.values()), 9) > 1:
            raise UsageError("the shares of --mix must not be negative, and must sum up to at most 1")
        if self.batch % 2 or (self.micro_batch or 0) % 2:
            raise UsageError("--batch-size and --micro-batch must be even: half of the crops are fake")
        if self.samples_per_epoch is not None and self.samples_per_epoch < self.batch:
            raise UsageError("an epoch must hold at least one batch")
        if list(self.sizes) != sorted(set(self.sizes)) or not all(75 <= size <= 1024 for size in self.sizes):
            raise UsageError("--sizes must grow, from 75 to 1024 at most", advice="Give them as in 96,128,160.")
        if self.sizes and self.input_size not in (None, self.sizes[-1]):
            raise UsageError("the last of --sizes is the input size", advice="Leave --input-size out.")
        if self.sampling == "plain" and (self.ranking or self.self_blend or self.mix):
            cause = "plain sampling, that of --recipe origin, has no pairs to rank, blend or mix"
            raise UsageError(cause, advice="Leave --ranking, --self-blend and --mix out.")
        if self.resume and self.force:
            raise UsageError("a training is either resumed or replaced, not both")


def train_recipe(name: str) -> TrainConfig:
    """Return a whole way to train, from which single settings may then differ.

    ``origin`` is the transfer learning of the bootcamp project this one grew from: VGGFace2 weights, one logit, plain
    cross-entropy, batches of 16 from the balanced crops in random order, 80 epochs, 256 px with values from 0 to 1, and
    as in facenet-pytorch's example Adam at a constant rate.
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
        models: paths or names of the detectors; the one that ships if empty.
        split: ``train``, ``val``, ``test`` or ``all``.
        frames_per_video: largest number of crops of each person in each video, spread evenly.
        robustness: kinds of damage of :mod:`torchfakes_cli.training.evaluate.perturb`, or ``all``; none if empty.
        levels: levels of each kind, from 1 (mild) to 5 (severe).
        robustness_frames: as ``frames_per_video``, for the damaged crops.
        rounds: rounds of the bootstrap that gives the intervals.
        bins: bins of the reliability plot and of the calibration error.
        coarse_weight: weight of the logits of coarse copies, for ``preprocess.relative_logits``; None for that of each
            checkpoint.
        calibrate: path of a new checkpoint with a calibration fitted on this split; None for none.
        calibration: ``platt`` (slope and intercept) or ``temperature`` (slope only).
        false_alarms: largest share of further reals that the new thresholds call fake.
        missed_fakes: largest share of the fakes that they call real.
        folds: folds of the cross-validation of the new calibration.
        seed: seed of the bootstrap, the folds and the noise.
        jobs: processes that extract the crops of a corpus; None for one per core.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        force: write into a folder with other files, and replace an existing checkpoint.
    """

    out: str = "evaluation"
    models: tuple[str, ...] = ()
    split: SplitName = "test"
    frames_per_video: int = 32
    robustness: tuple[str, ...] = ()
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    robustness_frames: int = 8
    rounds: int = 1000
    bins: int = 10
    coarse_weight: float | None = None
    calibrate: str | None = None
    calibration: CalibrationFit = "platt"
    false_alarms: float = 0.05
    missed_fakes: float = 0.25
    folds: int = 5
    seed: int = 0
    jobs: int | None = None
    device: str = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        _check(
            self,
            {"split": SplitName, "calibration": CalibrationFit},
            {
                (1, _ANY): "frames_per_video robustness_frames jobs",
                (100, 100_000): "rounds",
                (2, 100): "bins",
                (0, 0.999): "false_alarms missed_fakes",
                (0, 1): "coarse_weight",
                (2, _ANY): "folds",
                (0, _ANY): "seed",
            },
        )
        if not self.levels or not set(self.levels) <= {1, 2, 3, 4, 5}:
            raise UsageError("the levels of damage go from 1 to 5")
        if self.calibrate is not None and self.split in ("train", "all"):
            raise UsageError(
                "a calibration must not be fitted on what the detector was trained on",
                advice="Calibrate on --split val, and measure on test.",
            )
        if self.calibrate is not None and len(self.models) > 1:
            raise UsageError("one detector is calibrated at a time", advice="Give a single --model.")
