"""Signs that a run goes wrong, each with what it means and what to try.

A GAN has no loss that falls when all is well. What can be seen early: discriminators that tell
every fake from every real clip, gradients that leave their range, samples that become one video
or stand still, a metric that turns, a loader that is waited for. Thresholds are compared with the
run's own past, since healthy levels differ from data to data.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from digan.watching.history import RECENT, History

METRIC = "fd-random3d"
_PAST = 20  # ticks before the recent ones that say what is usual
_WON_LOSS, _LOST_LOSS = 0.05, 6.0  # of both discriminators together; of the generator
_GRADIENT_FACTOR = 30.0
_R1_FACTOR = 30.0
_SAME, _STILL = 0.3, 0.2  # shares of the data's distance between videos and change per frame
_WORSE = 1.5  # of the best distance so far
_WAIT = 0.1


@dataclass(frozen=True)
class Sign:
    """One warning.

    Attributes:
        name: of what was seen, in two words.
        text: what was seen, with its numbers, and what it means.
        cure: what to try.
    """

    name: str
    text: str
    cure: str

    def line(self) -> str:
        """All of it in a line."""
        return f"{self.name}: {self.text} {self.cure}"


def find_signs(history: History) -> list[Sign]:
    """All signs of a run as it is now, the gravest first."""
    kinds = (_bad_numbers, _silence, _won, _gradients, _penalty, _collapse, _stills, _turned, _wait)
    return [sign for kind in kinds for sign in kind(history)]


def _bad_numbers(history: History) -> Iterator[Sign]:
    for line in history.warnings[::-1]:
        if "non-finite" in line:
            yield Sign(
                "non-finite gradients",
                line.removeprefix("WARNING: ").removeprefix("stopped: ") + ".",
                "They were replaced by finite ones. If they go on: a lower --lr, a larger "
                "--gamma, or --precision fp32.",
            )
            return


def _silence(history: History) -> Iterator[Sign]:
    if history.state == "silent":
        yield Sign(
            "no news",
            f"The run says that it is running, but has written nothing for "
            f"{history.silence / 60:.0f} minutes.",
            "If its process is gone it was killed: the same command with --resume auto goes on.",
        )


def _won(history: History) -> Iterator[Sign]:
    fake, real = history.recent("D/fake_loss"), history.recent("D/real_loss")
    generator = history.recent("G/loss")
    if fake is None or real is None or generator is None or len(history.ticks) < RECENT:
        return
    if fake + real < _WON_LOSS and generator > _LOST_LOSS:
        yield Sign(
            "divergence",
            f"The discriminators tell every fake from every real clip (losses {fake:.3f} and "
            f"{real:.3f}, the generator's {generator:.1f}), so the generator hardly learns "
            "anything from them.",
            "A larger --gamma or --augment; with few clips also --preset fast.",
        )


def _past(values: list[float]) -> float | None:
    """What is usual: the median of the ticks before the recent ones, if there are enough."""
    past = values[:-RECENT][-_PAST:]
    return statistics.median(past) if len(past) >= RECENT else None


def _grown(history: History, name: str, factor: float) -> tuple[float, float] | None:
    """(usual, recent) of a statistic that has grown by more than a factor."""
    usual, recent = _past(history.series(name)), history.recent(name)
    if usual is None or recent is None or not usual > 0 or not recent > factor * usual:
        return None
    return usual, recent


def _gradients(history: History) -> Iterator[Sign]:
    for name, who in (("G", "generator's"), ("D", "discriminators'")):
        if grown := _grown(history, f"{name}/gradient_norm", _GRADIENT_FACTOR):
            yield Sign(
                "divergence",
                f"The norm of the {who} gradients has grown from {grown[0]:.3g} to {grown[1]:.3g}.",
                "A lower --lr or a larger --gamma; continue from a snapshot before the growth.",
            )


def _penalty(history: History) -> Iterator[Sign]:
    for name, who in (("video", "pairs"), ("image", "frames")):
        if grown := _grown(history, f"D/r1_{name}", _R1_FACTOR):
            yield Sign(
                "steep discriminators",
                f"The squared gradient of the discriminator of {who} by its input has grown from "
                f"{grown[0]:.3g} to {grown[1]:.3g}: it has begun to learn its clips by heart.",
                "A larger --gamma, more clips, or --augment.",
            )


def _collapse(history: History) -> Iterator[Sign]:
    yield from _share(
        history, "pairwise_ratio", _SAME, "collapse",
        "Samples differ from each other by {share} of what real clips do: the generator makes "
        "one video for many codes.",
        "Continue from the best snapshot with a larger --gamma or a lower --lr.",
    )  # fmt: skip


def _stills(history: History) -> Iterator[Sign]:
    yield from _share(
        history, "change_ratio", _STILL, "still videos",
        "Samples change from frame to frame by {share} of what real clips do: motion has not "
        "been learned, or was lost.",
        "A larger --generator.motion-scale for a new run; more --clip-frames if clips hardly move.",
    )  # fmt: skip


def _share(
    history: History, number: str, least: float, name: str, text: str, cure: str
) -> Iterator[Sign]:
    """A share of the data's that is too small, twice in a row, after the first snapshot."""
    shares = [value for _, value in history.metric_points(METRIC, number)]
    if len(shares) >= 3 and max(shares[-2:]) < least:
        yield Sign(name, text.format(share=f"{shares[-1]:.0%}"), cure)


def _turned(history: History) -> Iterator[Sign]:
    for metric in history.metrics:
        points = history.metric_points(metric)
        if metric.startswith("isv") or len(points) < 4:
            continue  # a score that is good when large
        best_at, best = min(points, key=lambda point: point[1])
        after = [value for at, value in points if at > best_at]
        if len(after) >= 2 and min(after[-2:]) > _WORSE * best:
            yield Sign(
                "turned metric",
                f"{metric} is {points[-1][1]:.4g}, and was {best:.4g} at {best_at:g} kimg.",
                "The snapshot of that time is the better network; with few clips training longer "
                "hurts, unless --gamma is larger.",
            )


def _wait(history: History) -> Iterator[Sign]:
    share = history.recent("data_wait_share")
    if share is not None and len(history.ticks) >= RECENT and share > _WAIT:
        yield Sign(
            "waiting for data",
            f"{share:.0%} of the time goes into waiting for frames.",
            "More --workers, or the store on a faster disk.",
        )
