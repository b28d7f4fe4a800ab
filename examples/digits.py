"""Handwritten digits: a small network learns to read the 1,797 images of the UCI optical recognition set.

    python -m flambeau run examples/digits.py          # on Flambeau
    python examples/digits.py                          # on PyTorch, if it is installed

An ordinary PyTorch script: a data set, a model, a training loop, and a look at the result in the terminal and in
examples/output/digits.png.  The data and their source are described in examples/data/README.md.
"""

import gzip
import os
import shutil
import sys
import time

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset, random_split

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data", "optical_digits.csv.gz")
PICTURE = os.path.join(HERE, "output", "digits.png")
EPOCHS, BATCH, GOAL = 30, 32, 0.96

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
SHADES = " ░▒▓█"


def styled(text, code):
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def load():
    """Images (1797, 64) with grey values between 0 and 1, and their labels (1797,)."""
    with gzip.open(DATA, "rt") as lines:
        rows = torch.tensor([[int(float(value)) for value in line.split(",")] for line in lines])
    return rows[:, :-1].float() / 16, rows[:, -1]


def show(images, captions):
    """Print images side by side, two characters to a pixel so that they come out square, with a caption over each."""
    print("  " + "  ".join(f"{caption:<16}" for caption in captions))
    grids = [(image.view(8, 8) * (len(SHADES) - 1)).round().int().tolist() for image in images]
    for row in range(8):
        print("  " + "  ".join(styled("".join(SHADES[level] * 2 for level in grid[row]), "36") for grid in grids))
    print()


def progress(epoch, done, loss, note=""):
    """One line that redraws itself; where output goes to a file, one line for every fifth epoch."""
    width = max(10, min(32, shutil.get_terminal_size().columns - 52))
    full = round(done * width)
    bar = styled("━" * full, "32") + styled("━" * (width - full), "90") if COLOUR else "#" * full + "." * (width - full)
    line = f"  epoch {epoch:>2}/{EPOCHS}  {bar}  loss {loss:.4f}  {note}"
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="\n" if note else "", flush=True)
    elif note and (epoch == 1 or epoch % 5 == 0):
        print(line)


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def save_picture(images, labels, predictions, confidence):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(4, 8, figsize=(9, 5.4))
    for axis, image, label, guess, sure in zip(axes.flat, images, labels.tolist(), predictions.tolist(), confidence.tolist()):
        axis.imshow(image.view(8, 8).numpy(), cmap="gray_r", interpolation="nearest")
        axis.set_title(f"{guess}  {sure:.0%}" if guess == label else f"{guess} (is {label})", fontsize=9,
                       color="#14532d" if guess == label else "#b91c1c")
        axis.axis("off")
    figure.suptitle("What the network reads, and how sure it is")
    figure.tight_layout()
    os.makedirs(os.path.dirname(PICTURE), exist_ok=True)
    figure.savefig(PICTURE, dpi=120)


def main():
    torch.manual_seed(0)
    images, labels = load()
    held_out = len(images) // 5
    training, test = random_split(TensorDataset(images, labels), [len(images) - held_out, held_out])
    test_images, test_labels = images[test.indices], labels[test.indices]

    print(styled("\nHandwritten digits", "1"))
    print(f"  {len(training)} images to learn from, {len(test)} held out\n")
    show(images[:4], [f"a {label}" for label in labels[:4].tolist()])

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    batches = DataLoader(training, batch_size=BATCH, shuffle=True)
    print(f"  A network of 64 → 128 → 64 → 10 units, {sum(p.numel() for p in model.parameters()):,} parameters\n")

    start = time.perf_counter()
    for epoch in range(1, EPOCHS + 1):
        model.train()
        total = 0.0
        for step, (x, y) in enumerate(batches, 1):
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            progress(epoch, step / len(batches), total / step)
        progress(epoch, 1.0, total / len(batches), f"held out {accuracy(model, test_images, test_labels):.1%}")
    seconds = time.perf_counter() - start

    model.eval()
    with torch.no_grad():
        confidence, predictions = torch.softmax(model(test_images), 1).max(1)
    right = predictions == test_labels
    share = right.float().mean().item()
    verdict = styled(f"{share:.1%}", "1;32" if share >= GOAL else "1;31")
    print(f"\n  Reads {verdict} of the held-out images ({int(right.sum())} of {len(test)}); trained in {seconds:.1f} s.\n")

    wrong = (~right).nonzero().flatten()
    if len(wrong):
        print("  Where it errs:\n")
        few = wrong[:4]
        show(test_images[few], [f"read {p}, is {t}" for p, t in zip(predictions[few].tolist(), test_labels[few].tolist())])
    chosen = torch.cat([wrong[:4], right.nonzero().flatten()])[:32]
    save_picture(test_images[chosen], test_labels[chosen], predictions[chosen], confidence[chosen])
    print("  A picture of some predictions:", os.path.relpath(PICTURE))
    if share < GOAL:
        sys.exit(f"expected at least {GOAL:.0%} on the held-out images")


if __name__ == "__main__":
    main()
