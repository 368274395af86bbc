"""One function for each run that we report: what it takes to repeat it, and the score to expect.

``rastrum train NAME`` runs one; every field is a flag (``--model.channels 64``, ``--data.held-out validation``, ``--run.minutes 5``).
Scores are of the averaged weights. Nats are an image's, of the natural logarithm; bits/dim = nats / (values of an image · ln 2).
Published scores stand beside ours where the data are the same. In Python:

    recipe = RECIPES["gated-pixelcnn-digits"]()
    data, held_out = load_dataset("digits", "train"), load_dataset("digits", "test")
    for state in train(build_model(recipe, data), data, recipe, held_out): ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..config import DataConfig, OptimConfig, Recipe, RunConfig

if TYPE_CHECKING:
    from ..canvas import CanvasModel
    from ..data.dataset import Dataset
    from ..raster import RasterModel

DIGITS, BINARY, GREY, COLOUR = (1, 8, 8, 17), (1, 28, 28, 2), (1, 28, 28, 256), (3, 32, 32, 256)
TWO, TWO_COLOUR = (1, 60, 60, 2), (3, 60, 60, 256)
PLACED = (1, 32, 32, 2)
TEXTURE, CROPS = (1, 20, 20, 256), (3, 8, 8, 256)
MOVING, MOVING_SMALL = (1, 64, 64, 256, 20), (1, 32, 32, 2, 8)            # the last number: frames
# The authors' code: 8 GPUs with 16 images each.
PLUS_PLUS = OptimConfig(
    learning_rate=1e-3, betas=(0.95, 0.9995), schedule="exponential", decay=0.999995, ema=0.9995, batch=128, micro_batch=4
)
# RMSProp on 16 images, as the PixelRNN paper trains on MNIST and CIFAR-10; rate, decay, average and clipping are ours.
PIXEL_RNN = OptimConfig(optimizer="rmsprop", learning_rate=5e-4, betas=(0.9, 0.95), warm_up=500, ema=0.9995, clip=20.0, batch=16)


def gated_pixelcnn_digits() -> Recipe:
    """Gated PixelCNN, told the class, on the embedded digits (8x8, 17 levels).

    Command: rastrum train gated-pixelcnn-digits
    Hardware and time: one core of a shared two-core machine, 54 s
    Expected score: 1.721 ± 0.013 bits/dim (all 360 held-out digits, exact)
    """
    return Recipe(
        model=_model("gated-pixelcnn", "small", DIGITS, layers=5),
        data=DataConfig(name="digits"),
        conditional=True,
        optim=OptimConfig(learning_rate=2e-3, warm_up=50, ema=0.99, clip=20.0, batch=32, micro_batch=16),
        run=RunConfig(steps=1000, held_out_images=None),
    )


def draw_digits() -> Recipe:
    """DRAW with attention on the embedded digits (8x8, 17 levels).

    Command: rastrum train draw-digits
    Hardware and time: one core of a shared two-core machine, 56 s
    Expected score: 2.04 ± 0.02 bits/dim (all 360 held-out digits, bound with 1 trajectory)
    """
    return Recipe(
        model=_model("draw", "small", DIGITS, hidden=128, read=4, write=4),
        data=DataConfig(name="digits"),
        optim=OptimConfig(learning_rate=1e-2, warm_up=40, ema=0.99, clip=50.0, batch=64, micro_batch=None),
        run=RunConfig(steps=1000, held_out_images=None),
    )


def pixelcnn_binarized_mnist() -> Recipe:
    """PixelCNN on Larochelle's binarised MNIST, half an hour on one core.

    Command: rastrum train pixelcnn-binarized-mnist, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: one core of a shared two-core machine, 28 CPU-minutes (2,766 steps)
    Expected score: 88.48 ± 0.21 nats (all 10,000 test images, exact); published, at other sizes and after far longer: 81.30 nats
    """
    return Recipe(
        model=_model("pixelcnn", "small", BINARY, channels=48, layers=10),
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=2e-3, warm_up=100, clip=20.0),
        run=RunConfig(cpu_minutes=28.0, workers=1),
    )


def gated_pixelcnn_binarized_mnist() -> Recipe:
    """Gated PixelCNN on Larochelle's binarised MNIST, three quarters of an hour on one core.

    Command: rastrum train gated-pixelcnn-binarized-mnist, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: one core of a shared two-core machine, 46 CPU-minutes (4,511 steps)
    Expected score: 85.91 ± 0.20 nats (all 10,000 test images, exact)
    """
    return Recipe(
        model=_model("gated-pixelcnn", "small", BINARY, layers=10),
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=2e-3, warm_up=100, clip=20.0),
        run=RunConfig(cpu_minutes=46.0, workers=1),
    )


def draw_binarized_mnist() -> Recipe:
    """DRAW with attention, 16 strokes, on Larochelle's binarised MNIST: the one in the package.

    Command: rastrum train draw-binarized-mnist, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: one core of a shared two-core machine, 45 CPU-minutes (23,325 steps)
    Expected score: 85.01 ± 0.23 nats (all 10,000 test images, bound with 1 trajectory; with 100, on 1,000 of them: 81.28 ± 0.66);
    published, 64 strokes: at most 80.97
    """
    return Recipe(
        model=_model("draw", "small", BINARY, hidden=176, steps=16),
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=3e-3, betas=(0.9, 0.99), warm_up=100, clip=5.0, batch=100, micro_batch=None),
        run=RunConfig(cpu_minutes=45.0, workers=1),
    )


def draw_mnist_300() -> Recipe:
    """DRAW with attention after 300 steps on 9,000 of MNIST's test digits, dynamically binarised: a quick comparison of implementations.

    Command: rastrum train draw-mnist-300
    Hardware and time: a shared two-core machine, 380 s while it was busy
    Expected score: 123.2 ± 1.1 nats (the other 1,000 digits, bound with 1 trajectory); best of the public ports tried: 210.7 nats
    """
    return Recipe(
        model=_model("draw", "small", BINARY),
        data=DataConfig(name="mnist", train="test[:9000]", held_out="test[9000:]", binarise="dynamic"),
        optim=OptimConfig(learning_rate=1e-2, betas=(0.9, 0.99), warm_up=40, ema=0.0, clip=5.0, batch=100, micro_batch=None),
        run=RunConfig(steps=300, evaluations=6, held_out_images=None),
    )


def draw_mnist_300_no_attention() -> Recipe:
    """DRAW without attention after 300 steps on 9,000 of MNIST's test digits, dynamically binarised.

    Command: rastrum train draw-mnist-300-no-attention
    Hardware and time: a shared two-core machine, 43 s
    Expected score: 118.0 ± 1.1 nats (the other 1,000 digits, bound with 1 trajectory); best of the public ports tried: 129.7 nats
    """
    recipe = draw_mnist_300()
    optim = replace(recipe.optim, learning_rate=8e-3)
    return replace(recipe, model=_model("draw", "small", BINARY, attention=False), optim=optim)


def draw_two_digit_mnist() -> Recipe:
    """DRAW with attention, 16 strokes, on pairs of MNIST digits at random places of 60x60 pixels, dynamically binarised.

    Command: rastrum train draw-two-digit-mnist, then rastrum evaluate FOLDER --data two-digit-mnist
    Hardware and time: one core of a shared two-core machine, stopped after about 12 of its 45 CPU-minutes (2,407 steps)
    Expected score: below 245.1 ± 2.4 nats, which is what it had then (500 test images, bound with 1 trajectory)
    """
    return _two_digits("two-digit-mnist", TWO, clip=20.0, binarise="dynamic")


def draw_two_digit_mnist_colour() -> Recipe:
    """DRAW with attention, 16 strokes, on pairs of coloured MNIST digits on coloured grounds, where the paper draws house numbers.

    Command: rastrum train draw-two-digit-mnist-colour, then rastrum evaluate FOLDER --data two-digit-mnist-colour
    Hardware and time: one core of a shared two-core machine, 20 CPU-minutes instead of 45 (2,066 steps)
    Expected score: below 1.607 ± 0.018 bits/dim, which is what it had then (500 test images, bound with 1 trajectory)
    """
    return _two_digits("two-digit-mnist-colour", TWO_COLOUR, clip=500.0)


def _two_digits(name: str, shape: tuple[int, int, int, int], clip: float, **data: Any) -> Recipe:
    """45 minutes of a small DRAW on two digits."""
    return Recipe(
        model=_model("draw", "small", shape, steps=16, latent=20, hidden=256, read=8, write=8),
        data=DataConfig(name=name, **data),
        optim=OptimConfig(learning_rate=3e-3, betas=(0.9, 0.99), warm_up=100, clip=clip, batch=64, micro_batch=None),
        run=RunConfig(cpu_minutes=45.0, workers=1, held_out_images=500),
    )


def gated_pixelcnn_mnist() -> Recipe:
    """Gated PixelCNN, told the class, on MNIST's grey levels, all 256 of them.

    Command: rastrum train gated-pixelcnn-mnist, then rastrum evaluate FOLDER --data mnist
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact)
    """
    return Recipe(
        model=_model("gated-pixelcnn", "small", GREY),
        data=DataConfig(name="mnist"),
        conditional=True,
        optim=OptimConfig(learning_rate=2e-3, warm_up=100, clip=100.0),
        run=RunConfig(minutes=28.0, held_out_images=500),
    )


def gated_pixelcnn_mnist_classes() -> Recipe:
    """Gated PixelCNN, told the class, on dynamically binarised MNIST: for drawing a digit that is asked for, and for Bayes' rule.

    Command: rastrum train gated-pixelcnn-mnist-classes, then python benchmarks/conditions.py --out OUT --classes FOLDER
    Hardware and time: one core of a shared two-core machine, 20 CPU-minutes (2,827 steps)
    Expected score: 84.27 ± 0.65 nats (1,000 test images, exact)
    """
    return Recipe(
        model=_model("gated-pixelcnn", "small", BINARY),
        data=DataConfig(name="mnist", binarise="dynamic"),
        conditional=True,
        optim=OptimConfig(learning_rate=3e-3, warm_up=100, clip=20.0, batch=32, micro_batch=16),
        run=RunConfig(cpu_minutes=20.0, workers=1),
    )


def gated_pixelcnn_cifar10() -> Recipe:
    """A small Gated PixelCNN on CIFAR-10.

    Command: rastrum train gated-pixelcnn-cifar10, then rastrum evaluate FOLDER --data cifar10
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published, paper size: 3.03 bits/dim
    """
    return Recipe(
        model=_model("gated-pixelcnn", "small", COLOUR),
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=1e-3, warm_up=100, clip=500.0),
        run=RunConfig(minutes=28.0, held_out_images=200),
    )


def pixelcnn_plus_plus_cifar10() -> Recipe:
    """A small PixelCNN++ (28 filters, 1 block a resolution) on CIFAR-10: the one in the package.

    Command: rastrum train pixelcnn-plus-plus-cifar10, then rastrum evaluate FOLDER --data cifar10
    Hardware and time: one core of a shared two-core machine, 45 CPU-minutes (3,746 steps)
    Expected score: 3.835 ± 0.006 bits/dim (all 10,000 test images, exact); published, paper size: 2.92 bits/dim
    """
    return Recipe(
        model=_model("pixelcnn++", "small", COLOUR, filters=28, dropout=0.0),
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=1.5e-3, betas=(0.95, 0.9995), warm_up=50, clip=500.0, batch=16),
        run=RunConfig(cpu_minutes=45.0, workers=1, held_out_images=200),
    )


def pixelcnn_plus_plus_cifar10_classes() -> Recipe:
    """``pixelcnn-plus-plus-cifar10`` told the class: begins with the weights of the one in the package.

    Command: rastrum train pixelcnn-plus-plus-cifar10-classes, then rastrum evaluate FOLDER --data cifar10
    Hardware and time: one core of a shared two-core machine, 6 of its 8 CPU-minutes (336 steps), then 14 more (803 steps) by --start
    Expected score: 3.820 ± 0.045 bits/dim (200 test images, exact), 3.918 ± 0.043 after 6; published, paper size: 2.94 bits/dim
    """
    recipe = pixelcnn_plus_plus_cifar10()
    return replace(
        recipe,
        start="rastrum/pixelcnn-plus-plus-cifar10",
        conditional=True,
        optim=replace(recipe.optim, learning_rate=7e-4, ema=0.995),
        run=replace(recipe.run, cpu_minutes=8.0),
    )


def pixelcnn_plus_plus_mnist() -> Recipe:
    """A small PixelCNN++ on MNIST's grey levels: the likelihood behind the anomaly scores.

    Command: rastrum train pixelcnn-plus-plus-mnist, then python benchmarks/anomaly.py FOLDER
    Hardware and time: one core of a shared two-core machine, 6 of its 10 CPU-minutes (386 steps)
    Expected score: 1.262 ± 0.013 bits/dim (500 test images, exact)
    """
    return _grey(DataConfig(name="mnist"))


def pixelcnn_plus_plus_fashion_mnist() -> Recipe:
    """A small PixelCNN++ on 9,000 of Fashion-MNIST's test images (the others are held out), for the anomaly scores.

    Command: rastrum train pixelcnn-plus-plus-fashion-mnist, then python benchmarks/anomaly.py FOLDER
    Hardware and time: one core of a shared two-core machine, 10 CPU-minutes (784 steps)
    Expected score: 3.239 ± 0.042 bits/dim (500 of the other 1,000 images, exact)
    """
    return _grey(DataConfig(name="fashion-mnist", train="test[:9000]", held_out="test[9000:]"))


def _grey(data: DataConfig) -> Recipe:
    """Ten minutes of a small PixelCNN++ on grey pictures of 28x28 pixels and 256 levels."""
    return Recipe(
        model=_model("pixelcnn++", "small", GREY, filters=24, dropout=0.0),
        data=data,
        optim=OptimConfig(learning_rate=2e-3, betas=(0.95, 0.9995), warm_up=50, ema=0.995, clip=500.0, batch=16),
        run=RunConfig(cpu_minutes=10.0, workers=1, held_out_images=500),
    )


def conv_draw_cifar10() -> Recipe:
    """Convolutional DRAW, 8 steps of 8 latent maps at half resolution, on CIFAR-10, one hour of one core.

    ``--model.beta 0.4`` (0.2, 0.1, 0.05) gives the paper's sheets of samples that keep less and less detail.

    Command: rastrum train conv-draw-cifar10, then rastrum evaluate FOLDER --data cifar10 --count 2000
    Hardware and time: one core of a shared two-core machine, stopped after about 50 CPU-minutes (23,207 steps)
    Expected score: 4.584 ± 0.013 bits/dim (2,000 test images, bound with 1 trajectory); published, paper size: at most 3.58 bits/dim
    """
    return Recipe(
        model=_model("conv-draw", "small", COLOUR, warm_up=0.1),
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=5e-3, betas=(0.9, 0.99), warm_up=50, clip=2e4, batch=4, micro_batch=4),
        run=RunConfig(cpu_minutes=60.0, workers=1, held_out_images=200),
    )


def conv_draw_binarized_mnist() -> Recipe:
    """Convolutional DRAW on Larochelle's binarised MNIST, ten minutes on one core.

    Command: rastrum train conv-draw-binarized-mnist, then rastrum evaluate FOLDER --data binarized-mnist --count 2000
    Hardware and time: one core of a shared two-core machine, 10 CPU-minutes (3,474 steps)
    Expected score: 99.24 ± 0.53 nats (2,000 test images, bound with 1 trajectory)
    """
    return _conv_draw_binary(DataConfig(name="binarized-mnist", held_out="validation"))


def conv_draw_omniglot() -> Recipe:
    """Convolutional DRAW on binarised Omniglot, ten minutes on one core.

    Command: rastrum train conv-draw-omniglot, then rastrum evaluate FOLDER --data omniglot --count 1000
    Hardware and time: one core of a shared two-core machine, stopped after about 3 of its 10 CPU-minutes (819 steps)
    Expected score: below 114.0 ± 1.2 nats, which is what it had then (1,000 test images, bound with 1 trajectory); published on another
    28x28 set: below 91.00
    """
    return _conv_draw_binary(DataConfig(name="omniglot", binarise="dynamic"))


def _conv_draw_binary(data: DataConfig) -> Recipe:
    """Ten minutes of a small convolutional DRAW on ink of 28x28 pixels."""
    return Recipe(
        model=_model("conv-draw", "small", BINARY),
        data=data,
        optim=OptimConfig(learning_rate=4e-3, betas=(0.9, 0.99), warm_up=50, clip=100.0, batch=8, micro_batch=8),
        run=RunConfig(cpu_minutes=10.0, workers=1, held_out_images=500),
    )


def conv_draw_cifar10_paper() -> Recipe:
    """Convolutional DRAW at the paper's size (32 steps, 12 latent channels at half resolution, 320 features, 5x5) on CIFAR-10.

    Its likelihood is a discretised logistic, not the paper's; the optimiser, its settings, batches of 64 and the length are ours.

    Command: rastrum train conv-draw-cifar10-paper --run.device cuda
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, bound with 1 trajectory); published: at most 3.58 bits/dim
    """
    return Recipe(
        model=_model("conv-draw", "paper", COLOUR),
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=5e-4, warm_up=1000, ema=0.9995, clip=1000.0, batch=64, micro_batch=None),
        run=RunConfig(steps=200_000, evaluations=50),
    )


def pixel_lstm_binarized_mnist() -> Recipe:
    """A plain LSTM over the 784 values of an image of Larochelle's binarised MNIST, five minutes.

    Command: rastrum train pixel-lstm-binarized-mnist, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: one core of a shared two-core machine, 5 CPU-minutes (930 steps)
    Expected score: 105.34 ± 0.61 nats (2,000 random test images, exact)
    """
    return five_minutes("pixel-lstm")


def spatial_lstm_dead_leaves() -> Recipe:
    """RIDE, a spatial LSTM with a mixture of Gaussian scale mixtures, on patches of dead leaves.

    Command: rastrum train spatial-lstm-dead-leaves, then rastrum evaluate FOLDER --data dead-leaves --count 1000 [--ensemble]
    Hardware and time: one core of a shared two-core machine, 4 CPU-minutes (5,675 steps)
    Expected score: 1.379 ± 0.018 bits/dim, as an ensemble 1.298 (1,000 test patches, exact)
    """
    return _texture("dead-leaves")


def spatial_lstm_dead_leaves_mcgsm() -> Recipe:
    """The mixture alone, of the 12 pixels before, for the same time as ``spatial-lstm-dead-leaves``.

    Command: rastrum train spatial-lstm-dead-leaves-mcgsm, then rastrum evaluate FOLDER --data dead-leaves --count 1000 [--ensemble]
    Hardware and time: one core of a shared two-core machine, 4 CPU-minutes (11,035 steps)
    Expected score: 1.477 ± 0.015 bits/dim, as an ensemble 1.431 (1,000 test patches, exact)
    """
    return _texture("dead-leaves", recurrent=False)


def spatial_lstm_bsds300() -> Recipe:
    """RIDE on grey patches of the Berkeley segmentation set's photographs.

    Command: rastrum train spatial-lstm-bsds300, then rastrum evaluate FOLDER --data bsds300 --count 1000 [--ensemble]
    Hardware and time: one core of a shared two-core machine, 4 CPU-minutes (12,371 steps)
    Expected score: 4.383 ± 0.049 bits/dim, as an ensemble 4.353 (1,000 test patches, exact); in the paper's unit, log-density of
    intensities in [0, 1] by python benchmarks/density.py FOLDER --count 1000: 3.572 ± 0.047 bits per pixel, 3.671 ± 0.048 of those with a
    whole neighbourhood; published (recalled), of whole images after far longer: 3.802
    """
    return _texture("bsds300")


def spatial_lstm_bsds300_mcgsm() -> Recipe:
    """The mixture alone, of the 12 pixels before, for the same time as ``spatial-lstm-bsds300``.

    Command: rastrum train spatial-lstm-bsds300-mcgsm, then rastrum evaluate FOLDER --data bsds300 --count 1000 [--ensemble]
    Hardware and time: one core of a shared two-core machine, 4 CPU-minutes (26,570 steps)
    Expected score: 4.598 ± 0.048 bits/dim, as an ensemble 4.564 (1,000 test patches, exact); in the paper's unit: 3.366 ± 0.047 bits per
    pixel, 3.500 ± 0.048 of those with a whole neighbourhood
    """
    return _texture("bsds300", recurrent=False)


def _texture(name: str, **overrides: Any) -> Recipe:
    """Four minutes of a small RIDE, or of its mixture alone, on grey patches."""
    return Recipe(
        model=_model("spatial-lstm", "small", TEXTURE, **overrides),
        data=DataConfig(name=name, size=TEXTURE[1], grey=True),
        optim=OptimConfig(learning_rate=4e-2, warm_up=50, ema=0.99, clip=500.0, batch=16),
        run=RunConfig(cpu_minutes=4.0, workers=1, held_out_images=200),
    )


def spatial_lstm_cifar10() -> Recipe:
    """RIDE on random crops of CIFAR-10 of 8x8 pixels, in colour, a fresh one each time an image is used.

    Command: rastrum train spatial-lstm-cifar10, then rastrum evaluate FOLDER --data cifar10 --crop
    Hardware and time: one core of a shared two-core machine, 4 CPU-minutes (11,398 steps)
    Expected score: 4.07 ± 0.06 bits/dim (crops of 200 test images, exact)
    """
    return replace(_texture("cifar10"), model=_model("spatial-lstm", "small", CROPS), data=DataConfig(name="cifar10", crop=CROPS[1]))


def spatial_lstm_cifar10_large() -> Recipe:
    """RIDE with the default sizes of its authors' code (64 units, 32 components of 4 scales) on CIFAR-10, for which the paper gives none.

    Its authors train by SGD and L-BFGS; the optimiser, its settings and the length are ours.

    Command: rastrum train spatial-lstm-cifar10-large --run.device cuda
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published (recalled), by van den Oord et al. (2016): 3.47 bits/dim
    """
    return Recipe(
        model=_model("spatial-lstm", "paper", COLOUR),
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=2e-3, warm_up=100, ema=0.999, clip=500.0, batch=64),
        run=RunConfig(steps=100_000, evaluations=50),
    )


def row_lstm_binarized_mnist() -> Recipe:
    """Row LSTM on Larochelle's binarised MNIST, five minutes.

    Command: rastrum train row-lstm-binarized-mnist, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: one core of a shared two-core machine, 5 CPU-minutes (697 steps)
    Expected score: 88.43 ± 0.46 nats (2,000 random test images, exact); published, at another size and after far longer: 80.54 nats
    """
    return five_minutes("row-lstm")


def row_lstm_mnist_classes() -> Recipe:
    """Row LSTM, told the class, on dynamically binarised MNIST: it sees whole digits above, so it draws what is asked for.

    Command: rastrum train row-lstm-mnist-classes, then python benchmarks/conditions.py --out OUT --classes FOLDER
    Hardware and time: one core of a shared two-core machine, 40 CPU-minutes (5,032 steps)
    Expected score: 78.93 ± 0.65 nats (1,000 test images, exact); 92.0 ± 0.9 % of samples are read as the class asked for
    """
    return _told("row-lstm", BINARY, DataConfig(name="mnist", binarise="dynamic"), 40.0)


def row_lstm_placed_mnist() -> Recipe:
    """Row LSTM, told by a map which digit lies about where, on digits placed on 32x32 pixels, ink from half intensity on.

    Command: rastrum train row-lstm-placed-mnist, the same again with --start FOLDER --optim.learning-rate 2e-3 --run.cpu-minutes 34,
    then python benchmarks/conditions.py --out OUT --placed FOLDER --images 8000
    Hardware and time: one core of a shared two-core machine, 36 and 34 CPU-minutes (3,004 and 2,681 steps)
    Expected score: 26.94 ± 0.25 nats (1,000 test images, exact), 27.50 ± 0.25 after the first; 83.7 ± 0.4 % lie in the cell asked for
    """
    return _told("row-lstm", PLACED, DataConfig(name="placed-mnist", binarise="threshold"), 36.0, condition_channels=24)


def _told(name: str, shape: tuple[int, int, int, int], data: DataConfig, cpu_minutes: float, **overrides: Any) -> Recipe:
    """A small model that is told what it draws."""
    return Recipe(
        model=_model(name, "small", shape, **overrides),
        data=data,
        conditional=True,
        optim=OptimConfig(learning_rate=3e-3, warm_up=50, ema=0.995, clip=20.0, batch=32, micro_batch=16),
        run=RunConfig(cpu_minutes=cpu_minutes, workers=1),
    )


def diagonal_bilstm_binarized_mnist() -> Recipe:
    """Diagonal BiLSTM on Larochelle's binarised MNIST, five minutes.

    Command: rastrum train diagonal-bilstm-binarized-mnist, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: one core of a shared two-core machine, 5 CPU-minutes (439 steps)
    Expected score: 90.15 ± 0.46 nats (2,000 random test images, exact); published, at another size and after far longer: 79.20 nats
    """
    return five_minutes("diagonal-bilstm")


def multiscale_pixelrnn_binarized_mnist() -> Recipe:
    """Multi-scale PixelRNN (7x7, 14x14, 28x28, Row LSTMs) on Larochelle's binarised MNIST, five minutes.

    Command: rastrum train multiscale-pixelrnn-binarized-mnist, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: one core of a shared two-core machine, 5 CPU-minutes (577 steps)
    Expected score: 91.68 ± 0.47 nats (2,000 random test images, exact)
    """
    return five_minutes("multiscale-pixelrnn")


def video_pixel_network_moving_mnist_small() -> Recipe:
    """A small Video Pixel Network on 8 frames of moving MNIST, 32x32 pixels of two levels.

    Command: rastrum train video-pixel-network-moving-mnist-small, then python benchmarks/video.py --model FOLDER, or
    rastrum complete FOLDER --data moving-mnist --context 4 --trace x.gif
    Hardware and time: one core of a shared two-core machine, 40 CPU-minutes (8,005 steps); the one in the package 108, as its card says
    Expected score: 227.8 ± 4.7 nats a video in the package (200 test sequences, exact), 21.63 ± 0.46 nats a frame for the last four of 8;
    after 40 minutes 313.4 ± 5.1 and 33.59 ± 0.44, with --run.seed 1 312.1 ± 5.1 and 33.41 ± 0.44
    """
    return Recipe(
        model=_model("video-pixel-network", "small", MOVING_SMALL),
        data=DataConfig(name="moving-mnist", size=32, frames=8, binarise="threshold"),
        optim=OptimConfig(learning_rate=4e-3, warm_up=50, ema=0.995, clip=200.0, batch=1, micro_batch=1),
        run=RunConfig(cpu_minutes=40.0, workers=1, held_out_images=200),
    )


def video_pixel_network_moving_mnist_small_stateless() -> Recipe:
    """``video-pixel-network-moving-mnist-small`` without the recurrence: the decoder is told of the previous frame alone.

    Command: rastrum train video-pixel-network-moving-mnist-small-stateless, then python benchmarks/video.py --stateless FOLDER
    Hardware and time: one core of a shared two-core machine, 40 CPU-minutes (10,483 steps)
    Expected score: 327.0 ± 5.1 nats a video (200 test sequences, exact), 36.30 ± 0.45 nats a frame for the last four of 8; with
    --run.seed 1 336.1 ± 5.2 and 37.54 ± 0.45
    """
    recipe = video_pixel_network_moving_mnist_small()
    return replace(recipe, model=replace(recipe.model, recurrent=False))


def video_pixel_network_moving_mnist_small_independent() -> Recipe:
    """``video-pixel-network-moving-mnist-small`` whose values of a frame are independent given earlier frames: the paper's baseline.

    Command: rastrum train video-pixel-network-moving-mnist-small-independent, then python benchmarks/video.py --independent FOLDER
    Hardware and time: one core of a shared two-core machine, 40 CPU-minutes (8,056 steps)
    Expected score: 696.4 ± 8.3 nats a video (200 test sequences, exact), 69.44 ± 0.66 nats a frame for the last four of 8
    """
    recipe = video_pixel_network_moving_mnist_small()
    return replace(recipe, model=replace(recipe.model, dependent=False))


def video_pixel_network_moving_mnist_paper() -> Recipe:
    """Video Pixel Network at the paper's size on moving MNIST as published (64x64, 20 frames, clipped paths), with the paper's loss.

    RMSProp on 64 videos and the size are as we recall the paper; the rate, its decay, the average and the length are ours. The loss, the
    cross-entropy of grey values, is no likelihood; the published number is that of frames 11 to 20.

    Command: rastrum train video-pixel-network-moving-mnist-paper --run.device cuda, then
    rastrum evaluate FOLDER --data moving-mnist --paths clipped --context 10
    Hardware and time: not yet measured
    Expected score: not yet measured (a loss); published: 87.6 nats per frame of sigmoid cross-entropy, at least 86.3; baseline 110.1
    """
    return Recipe(
        model=_model("video-pixel-network", "paper", MOVING, likelihood="cross-entropy"),
        data=DataConfig(name="moving-mnist", paths="clipped"),
        optim=OptimConfig(
            optimizer="rmsprop", learning_rate=3e-4, betas=(0.9, 0.95), warm_up=1000, ema=0.9995, clip=2000.0, batch=64, micro_batch=1
        ),
        run=RunConfig(steps=300_000, evaluations=50, held_out_images=100),
    )


def pixelcnn_binarized_mnist_large() -> Recipe:
    """PixelCNN of 7 blocks with h = 16 on Larochelle's binarised MNIST, for which the paper gives no size.

    The output layers, RMSProp and batches of 16 are the paper's.

    Command: rastrum train pixelcnn-binarized-mnist-large --run.device cuda, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published, of an unknown size: 81.30 nats
    """
    return _pixel_rnn_mnist("pixelcnn")


def row_lstm_binarized_mnist_large() -> Recipe:
    """Row LSTM of 7 layers with h = 16 on Larochelle's binarised MNIST, for which the paper gives no size.

    The output layers, RMSProp and batches of 16 are the paper's.

    Command: rastrum train row-lstm-binarized-mnist-large --run.device cuda, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published, of an unknown size: 80.54 nats
    """
    return _pixel_rnn_mnist("row-lstm")


def diagonal_bilstm_binarized_mnist_paper() -> Recipe:
    """Diagonal BiLSTM at the paper's size (7 layers, h = 16) on Larochelle's binarised MNIST.

    Command: rastrum train diagonal-bilstm-binarized-mnist-paper --run.device cuda, then rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published: 79.20 nats
    """
    return _pixel_rnn_mnist("diagonal-bilstm")


def diagonal_bilstm_binarized_mnist_1_layer_paper() -> Recipe:
    """Diagonal BiLSTM at the paper's other size (1 layer, h = 32) on Larochelle's binarised MNIST.

    Command: rastrum train diagonal-bilstm-binarized-mnist-1-layer-paper --run.device cuda, then
    rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published (recalled): 80.75 nats
    """
    return _pixel_rnn_mnist("diagonal-bilstm", layers=1, units=32)


def multiscale_pixelrnn_binarized_mnist_large() -> Recipe:
    """Multi-scale PixelRNN (7x7, 14x14, 28x28) of Row LSTMs of 7 layers with h = 16 each on Larochelle's binarised MNIST; sizes are ours.

    The output layers, RMSProp and batches of 16 are the PixelRNN paper's.

    Command: rastrum train multiscale-pixelrnn-binarized-mnist-large --run.device cuda, then
    rastrum evaluate FOLDER --data binarized-mnist
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact)
    """
    return _pixel_rnn_mnist("multiscale-pixelrnn")


def _pixel_rnn_mnist(name: str, **overrides: Any) -> Recipe:
    """A network of the PixelRNN paper on binarised MNIST; the length is ours."""
    return Recipe(
        model=_model(name, "paper", BINARY, **overrides),
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=PIXEL_RNN,
        run=RunConfig(steps=400_000, evaluations=50),
    )


def pixelcnn_cifar10_paper() -> Recipe:
    """PixelCNN at the paper's size as we recall it (15 blocks, h = 128, rounded up to 129) on CIFAR-10.

    Command: rastrum train pixelcnn-cifar10-paper --run.device cuda, then rastrum evaluate FOLDER --data cifar10
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published: 3.14 bits/dim
    """
    return _pixel_rnn_cifar10("pixelcnn")


def row_lstm_cifar10_paper() -> Recipe:
    """Row LSTM at the paper's size as we recall it (12 layers, h = 128, rounded up to 129) on CIFAR-10.

    Command: rastrum train row-lstm-cifar10-paper --run.device cuda, then rastrum evaluate FOLDER --data cifar10
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published: 3.07 bits/dim
    """
    return _pixel_rnn_cifar10("row-lstm")


def diagonal_bilstm_cifar10_paper() -> Recipe:
    """Diagonal BiLSTM at the paper's size as we recall it (12 layers, h = 128, rounded up to 129) on CIFAR-10.

    Command: rastrum train diagonal-bilstm-cifar10-paper --run.device cuda, then rastrum evaluate FOLDER --data cifar10
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published: 3.00 bits/dim
    """
    return _pixel_rnn_cifar10("diagonal-bilstm")


def multiscale_pixelrnn_cifar10_large() -> Recipe:
    """Multi-scale PixelRNN (8x8, 16x16, 32x32) on CIFAR-10, at each scale the layers of the paper's Row LSTM; its own size we do not know.

    Command: rastrum train multiscale-pixelrnn-cifar10-large --run.device cuda, then rastrum evaluate FOLDER --data cifar10
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact)
    """
    return _pixel_rnn_cifar10("multiscale-pixelrnn")


def _pixel_rnn_cifar10(name: str) -> Recipe:
    """A network of the PixelRNN paper on CIFAR-10; the length is ours."""
    return Recipe(
        model=_model(name, "paper", COLOUR),
        data=DataConfig(name="cifar10"),
        optim=replace(PIXEL_RNN, clip=500.0, micro_batch=4),
        run=RunConfig(steps=400_000, evaluations=50),
    )


def draw_binarized_mnist_paper() -> Recipe:
    """DRAW at the paper's size (64 strokes, LSTMs of 256, z of 100, read 2x2, write 5x5) on Larochelle's binarised MNIST.

    Adam on 128 images, its settings and the length are ours.

    Command: rastrum train draw-binarized-mnist-paper --run.device cuda
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, bound with 1 trajectory); published: at most 80.97 nats
    """
    return Recipe(
        model=_model("draw", "paper", BINARY),
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=1e-3, ema=0.9995, clip=20.0, batch=128, micro_batch=None),
        run=RunConfig(steps=100_000, evaluations=50),
    )


def gated_pixelcnn_cifar10_large() -> Recipe:
    """Gated PixelCNN of the size that its paper has for ImageNet (20 layers, 384 channels, 5x5, as we recall it) on CIFAR-10.

    The paper gives no size for CIFAR-10; the optimiser, its settings and the length are ours.

    Command: rastrum train gated-pixelcnn-cifar10-large --run.device cuda, then rastrum evaluate FOLDER --data cifar10
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published, of an unknown size: 3.03 bits/dim
    """
    return Recipe(
        model=_model("gated-pixelcnn", "paper", COLOUR),
        data=DataConfig(name="cifar10"),
        optim=OptimConfig(learning_rate=4e-4, warm_up=1000, ema=0.9995, clip=500.0, batch=64),
        run=RunConfig(steps=200_000, evaluations=50),
    )


def pixelcnn_plus_plus_cifar10_paper() -> Recipe:
    """PixelCNN++ of the authors' code (160 filters, 5 blocks per resolution, 53,659,080 parameters) with its optimiser on CIFAR-10.

    Batches of 128 are its 8 GPUs of 16 images each; the length is ours.

    Command: rastrum train pixelcnn-plus-plus-cifar10-paper --run.device cuda
    Hardware and time: not yet measured
    Expected score: not yet measured (all 10,000 test images, exact); published: 2.92 bits/dim
    """
    return Recipe(
        model=_model("pixelcnn++", "paper", COLOUR),
        data=DataConfig(name="cifar10"),
        optim=PLUS_PLUS,
        run=RunConfig(steps=1_000_000, evaluations=100),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "gated-pixelcnn-digits": gated_pixelcnn_digits,
    "draw-digits": draw_digits,
    "pixelcnn-binarized-mnist": pixelcnn_binarized_mnist,
    "gated-pixelcnn-binarized-mnist": gated_pixelcnn_binarized_mnist,
    "draw-binarized-mnist": draw_binarized_mnist,
    "draw-mnist-300": draw_mnist_300,
    "draw-mnist-300-no-attention": draw_mnist_300_no_attention,
    "draw-two-digit-mnist": draw_two_digit_mnist,
    "draw-two-digit-mnist-colour": draw_two_digit_mnist_colour,
    "gated-pixelcnn-mnist": gated_pixelcnn_mnist,
    "gated-pixelcnn-mnist-classes": gated_pixelcnn_mnist_classes,
    "gated-pixelcnn-cifar10": gated_pixelcnn_cifar10,
    "pixelcnn-plus-plus-cifar10": pixelcnn_plus_plus_cifar10,
    "pixelcnn-plus-plus-cifar10-classes": pixelcnn_plus_plus_cifar10_classes,
    "pixelcnn-plus-plus-mnist": pixelcnn_plus_plus_mnist,
    "pixelcnn-plus-plus-fashion-mnist": pixelcnn_plus_plus_fashion_mnist,
    "conv-draw-cifar10": conv_draw_cifar10,
    "conv-draw-cifar10-paper": conv_draw_cifar10_paper,
    "conv-draw-binarized-mnist": conv_draw_binarized_mnist,
    "conv-draw-omniglot": conv_draw_omniglot,
    "pixel-lstm-binarized-mnist": pixel_lstm_binarized_mnist,
    "spatial-lstm-dead-leaves": spatial_lstm_dead_leaves,
    "spatial-lstm-dead-leaves-mcgsm": spatial_lstm_dead_leaves_mcgsm,
    "spatial-lstm-bsds300": spatial_lstm_bsds300,
    "spatial-lstm-bsds300-mcgsm": spatial_lstm_bsds300_mcgsm,
    "spatial-lstm-cifar10": spatial_lstm_cifar10,
    "spatial-lstm-cifar10-large": spatial_lstm_cifar10_large,
    "row-lstm-binarized-mnist": row_lstm_binarized_mnist,
    "row-lstm-mnist-classes": row_lstm_mnist_classes,
    "row-lstm-placed-mnist": row_lstm_placed_mnist,
    "diagonal-bilstm-binarized-mnist": diagonal_bilstm_binarized_mnist,
    "multiscale-pixelrnn-binarized-mnist": multiscale_pixelrnn_binarized_mnist,
    "video-pixel-network-moving-mnist-small": video_pixel_network_moving_mnist_small,
    "video-pixel-network-moving-mnist-small-stateless": video_pixel_network_moving_mnist_small_stateless,
    "video-pixel-network-moving-mnist-small-independent": video_pixel_network_moving_mnist_small_independent,
    "video-pixel-network-moving-mnist-paper": video_pixel_network_moving_mnist_paper,
    "pixelcnn-binarized-mnist-large": pixelcnn_binarized_mnist_large,
    "row-lstm-binarized-mnist-large": row_lstm_binarized_mnist_large,
    "diagonal-bilstm-binarized-mnist-paper": diagonal_bilstm_binarized_mnist_paper,
    "diagonal-bilstm-binarized-mnist-1-layer-paper": diagonal_bilstm_binarized_mnist_1_layer_paper,
    "multiscale-pixelrnn-binarized-mnist-large": multiscale_pixelrnn_binarized_mnist_large,
    "pixelcnn-cifar10-paper": pixelcnn_cifar10_paper,
    "row-lstm-cifar10-paper": row_lstm_cifar10_paper,
    "diagonal-bilstm-cifar10-paper": diagonal_bilstm_cifar10_paper,
    "multiscale-pixelrnn-cifar10-large": multiscale_pixelrnn_cifar10_large,
    "draw-binarized-mnist-paper": draw_binarized_mnist_paper,
    "gated-pixelcnn-cifar10-large": gated_pixelcnn_cifar10_large,
    "pixelcnn-plus-plus-cifar10-paper": pixelcnn_plus_plus_cifar10_paper,
}


def build_model(recipe: Recipe, data: Dataset) -> RasterModel | CanvasModel:
    """A fresh model for the images of ``data``; its parameters come from ``recipe.run.seed``, or from ``recipe.start``.

    Raises ``ValueError`` where data and model do not fit, before any training.
    """
    import torch

    from ..models import MODELS

    if recipe.conditional and data.condition_spec is None:
        raise ValueError(f"data: {data.name} {data.split} has no class, vector or map to tell the model; set --no-conditional")
    condition = data.condition_spec if recipe.conditional else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.run.seed)
        model = MODELS[model_name(recipe)](data.spec, recipe.model, condition)
    if recipe.start is not None:
        begin_with(model, recipe.start)
    return model


def begin_with(model: RasterModel | CanvasModel, start: str) -> None:
    """Give ``model`` the weights of the saved model ``start``, of the same kind; parameters that it lacks stay as they are.

    Raises ``ValueError`` where ``start`` has a parameter that the model does not have, or one of another shape.
    """
    from ..checkpoint import load

    weights, ours = load(start).state_dict(), model.state_dict()
    for name, values in weights.items():
        if name not in ours or ours[name].shape != values.shape:
            have = "none" if name not in ours else "x".join(map(str, ours[name].shape))
            raise ValueError(f"start: {start} has {name} of shape {'x'.join(map(str, values.shape))}, this model has {have}")
    model.load_state_dict(weights, strict=False)


def model_name(recipe: Recipe) -> str:
    """The name in ``MODELS`` of the recipe's system."""
    from ..models import MODELS

    return next(name for name, model_class in MODELS.items() if model_class.config_class is type(recipe.model))


def five_minutes(name: str) -> Recipe:
    """A small model on binarised MNIST for five minutes of one core, as benchmarks/learning.py compares them."""
    return Recipe(
        model=_model(name, "small", BINARY),
        data=DataConfig(name="binarized-mnist", held_out="validation"),
        optim=OptimConfig(learning_rate=3e-3, warm_up=50, ema=0.995, clip=20.0, batch=32, micro_batch=16),
        run=RunConfig(cpu_minutes=5.0, workers=1),
    )


def _model(name: str, preset: str, shape: tuple[int, ...], **overrides: Any) -> Any:
    """The config of a system at a preset for images of ``shape`` (channels, height, width, levels), or with frames behind."""
    from ..models import MODELS
    from ..protocol import ImageSpec

    return MODELS[name].preset(preset, ImageSpec(*shape), **overrides)
