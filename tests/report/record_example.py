"""Makes the three recorded runs of ``entropo report --demo`` anew, from the folder of an ``entropo demo``.

Run: python tests/report/record_example.py runs/demo. Kept are the metrics that the recorded runs have now, with six
digits, and the forty most costly tokens of each run; paths become those of ``runs/demo``.
"""

import gzip
import json
import shlex
import sys
from pathlib import Path

import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "entropo_plugin" / "report" / "example"
TOKENS = 40
TOKEN = ("step", "uid", "row", "position", "token", "context_before", "context_after", "cost")


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def known():
    """Metrics of the runs as they are recorded now."""
    names = set()
    for path in EXAMPLE.glob("*/metrics.jsonl.gz"):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            names |= json.loads(line)["data"].keys()
    return names


def lines(found):
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in found).encode()


def metrics(path, names):
    for record in records(path):
        own = {name: value for name, value in record["data"].items() if name in names}
        yield record | {"data": {name: float(f"{value:.6g}") for name, value in own.items()}}


def tokens(path):
    costly = sorted(records(path), key=lambda token: abs(token["cost"]), reverse=True)[:TOKENS]
    for token in sorted(costly, key=lambda token: (token["step"], -abs(token["cost"]))):
        yield {name: token[name] for name in TOKEN} | {"cost": float(f"{token['cost']:.3g}")}


def record(source, names):
    target = EXAMPLE / source.name
    target.mkdir(exist_ok=True)
    packed = gzip.compress(lines(metrics(source / "metrics.jsonl", names)), mtime=0)
    (target / "metrics.jsonl.gz").write_bytes(packed)
    (target / "metrics.tokens.jsonl").write_bytes(lines(tokens(source / "metrics.tokens.jsonl")))
    described = json.loads((source / "metrics.run.json").read_text())
    text = json.dumps(described | {"command": command(source)})
    (target / "metrics.run.json").write_text(text.replace(str(source.parent.resolve()), "runs/demo"))


def command(source):
    """Ray started the trainer that wrote the description: Hydra knows the words."""
    words = yaml.safe_load((source / "hydra" / ".hydra" / "overrides.yaml").read_text())
    return shlex.join(["python", "-m", "verl.trainer.main_ppo", *words])


def main():
    folder, names = Path(sys.argv[1]), known()
    for path in sorted(EXAMPLE.iterdir()):
        record(folder / path.name, names)


if __name__ == "__main__":
    main()
