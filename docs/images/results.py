"""Draws results.png, the README's picture, from the figures of docs/demo.md: `python docs/images/results.py`.

The curves are those of demo.png (`make demo DEMO_MINUTES=20`, seed 0), read off that picture: entropies to 0.01 nats,
rewards exactly, as right answers of 96. The dots are the table's: seeds 0, 1 and 2, one training each.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

GREY, RED = "#8a8f98", "#c2410c"
ENTROPY = {
    GREY: "154 153 152 146 140 125 110 112 122 112 105 97 81 69 63 58 41 34 "
    "58 31 37 27 41 50 35 36 33 40 22 19 16 22 14 13 17 13",
    RED: "155 154 150 150 150 152 147 146 148 143 144 141 139 138 138 138 141 145 "
    "146 143 143 140 140 140 137 138 138 138 138 139 139 142 140 141 141 137",
}
RIGHT = {
    GREY: "29 23 27 24 18 20 15 11 19 26 21 22 18 26 33 45 55 58 40 70 62 64 67 74 80 80 83 82 90 92 90 89 93 96 94 89",
    RED: "21 22 17 21 33 20 22 18 25 36 14 19 26 35 29 27 27 30 33 25 32 38 36 34 37 39 43 30 36 44 39 38 47 44 44 32",
}
PASS = {GREY: {1: (0.20, 0.24, 0.10), 8: (0.250, 0.473, 0.125)}, RED: {1: (0.27, 0.19, 0.17), 8: (0.843, 0.682, 0.731)}}
START = (0.89, 0.93)  # pass@8 of the model that both runs start from
LABELS = {GREY: "stock GRPO", RED: "REPO-R (+entropo=repo_r)"}


def numbers(text, unit):
    return [int(word) / unit for word in text.split()]


def curves(axes, data, unit, title):
    for colour, text in data.items():
        axes.plot(range(1, 37), numbers(text, unit), color=colour, linewidth=2.2, label=LABELS[colour])
    axes.set(title=title, xlabel="training step", ylim=(0, None))


def held_out(axes):
    axes.axhspan(*START, xmin=0.5, color="#1d4ed8", alpha=0.25, linewidth=0)
    axes.text(0.46, 0.91, "before training", color="#1d4ed8", va="center", ha="right", fontsize=9)
    for shift, colour in ((-0.12, GREY), (0.12, RED)):
        for place, k in enumerate(PASS[colour]):
            axes.scatter([place + shift] * 3, PASS[colour][k], s=52, color=colour, zorder=3)
    axes.set(title="held-out prompts, after training (3 seeds)", xticks=(0, 1), xlim=(-0.5, 1.5), ylim=(0, 1.02))
    axes.set_xticklabels(["pass@1", "pass@8"])


def main():
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True})
    plt.rcParams.update({"grid.color": "#eeeeee", "axes.axisbelow": True, "axes.titlesize": 11.5})
    figure, (entropy, right, passes) = plt.subplots(1, 3, figsize=(12, 3.7), dpi=130, layout="constrained")
    curves(entropy, ENTROPY, 100, "policy entropy, nats per token")
    curves(right, RIGHT, 96, "reward on the trained prompts")
    held_out(passes)
    entropy.legend(loc="lower left", frameon=False)
    figure.savefig(Path(__file__).with_name("results.png"))


if __name__ == "__main__":
    main()
