"""The closed choices of the configuration."""

from enum import StrEnum


class Parameterization(StrEnum):
    """What the network's output stands for."""

    EPS = "eps"
    """The noise: x0 = x_t / sqrt(abar_t) - sqrt(1 / abar_t - 1) eps (paper, eq. 11-12)."""
    MU = "mu"
    """The mean of q(x_{t-1} | x_t, x0) itself (eq. 8; "mu-tilde prediction, baseline" in Table 2)."""
    X0 = "x0"
    """The image (Section 3.2; in no table of the paper)."""


class Objective(StrEnum):
    """What training minimises."""

    SIMPLE = "simple"
    """Mean squared error of what the network predicts (eq. 14 for eps)."""
    VLB = "vlb"
    """The term of the variational bound at a random t, in bits/dim (eq. 5)."""


class Variance(StrEnum):
    """The variance of p(x_{t-1} | x_t)."""

    FIXEDLARGE = "fixedlarge"
    """beta_t, but the posterior's at the last step, for a better decoder likelihood (released code, CIFAR-10)."""
    FIXEDSMALL = "fixedsmall"
    """The posterior's: beta~_t = (1 - abar_{t-1}) / (1 - abar_t) beta_t (eq. 7)."""
    LEARNED = "learned"
    """exp of the network's second half of channels, unbounded (Table 2, "learned diagonal Sigma")."""


class Quantisation(StrEnum):
    """How samples become 8-bit images."""

    NEAREST = "nearest"
    """Rounded to the nearest of the 256 levels."""
    TRUNCATE = "truncate"
    """Cut down to the level below, as the authors' code does where it writes images."""


class WeightsSource(StrEnum):
    """Where the weights of an experiment come from."""

    TRAIN = "train"
    """Trained here."""
    RELEASED = "released"
    """Published ones, downloaded, checked and converted: `checkpoint` says which."""


class Features(StrEnum):
    """Which network's features and classes the scores are computed from."""

    INCEPTION = "inception"
    """The Inception network of 2015-12-05, as in the paper."""
    CLASSIFIER = "classifier"
    """A classifier that is trained on the data set's labels: `classifier` says which."""


class Spacing(StrEnum):
    """Which of the T times few-step sampling visits (Song et al. 2021, Appendix D.2)."""

    UNIFORM = "uniform"
    """0, T // S, 2 (T // S), ...: equally spaced."""
    QUADRATIC = "quadratic"
    """Squares of S equally spaced numbers up to sqrt(0.8 T): denser near the image (the authors', for CIFAR-10)."""


class Architecture(StrEnum):
    """What a classifier is built as."""

    CONVNET = "convnet"
    """Three convolutions and two dense layers, trained by AdamW: for digits, on a CPU."""
    RESNET10 = "resnet10"
    """torchvision's ResNet with a block per level, a first convolution of 3x3 and no pooling behind it, as is usual
    for images of 32x32; trained by SGD with one cycle of the rate on shifted and mirrored images."""


class Selection(StrEnum):
    """Which weights of a training are scored."""

    FINAL = "final"
    """Those after the last step."""
    LOWEST_FID = "lowest-fid"
    """Those of the snapshot with the lowest FID over the course of training, as in the paper (Appendix B)."""


class Precision(StrEnum):
    """What the layers of a network compute in. Their weights, and everything else, are float32."""

    AUTO = "auto"
    """bf16 where the device has instructions for it and the network is wide enough to gain by it."""
    FP32 = "fp32"
    BF16 = "bf16"


PRECISION_ENV = "DDPM_PRECISION"  # the environment variable by which jobs are told it
