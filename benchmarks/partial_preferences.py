"""Keep a part of the recorded preferences: does stage 2 gain more by it?

python benchmarks/partial_preferences.py FOLDER... --to data/teacher

Writes two files of recorded answers (data/teacher/README.md), which differ from the teacher's own
in their comparisons alone:

first_choice.jsonl: the passage that the teacher ranks first is preferred to each of the others, as
    if it were the label, and these are not compared with each other.
below_label.jsonl: a labelled passage is preferred to those that the teacher ranks below it; it is
    not compared with those above, and the unlabelled ones not with each other.

The rows `first_choice` and `below_label` of tables/tune.yaml align with them. FOLDER is a
collection in BEIR's form that tables/collections.yaml knows. A second.
"""

import argparse
import sys
from collections.abc import Callable, Collection
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import stages  # noqa: E402

FIRST_SHOWN_WINS = 1


def first_choice(order: list[str], labelled: Collection[str]) -> list[tuple[str, str, int]]:
    """The first against each of the others.

    >>> first_choice(["a", "b", "c"], {"b"})
    [('a', 'b', 1), ('a', 'c', 1)]
    """
    return [(order[0], other, FIRST_SHOWN_WINS) for other in order[1:]]


def below_label(order: list[str], labelled: Collection[str]) -> list[tuple[str, str, int]]:
    """Each labelled one against the unlabelled ones after it.

    >>> below_label(["a", "b", "c"], {"b"})
    [('b', 'c', 1)]
    """
    return [
        (one, other, FIRST_SHOWN_WINS)
        for place, one in enumerate(order)
        for other in order[place + 1 :]
        if one in labelled and other not in labelled
    ]


def kept(
    folder: Path, answers: Path, keep: Callable[[list[str], Collection[str]], list]
) -> list[dict]:
    """Return the records of a collection, with the comparisons that `keep` makes of each order."""
    from syntriever.collection import read_qrels
    from syntriever.files import read_jsonl

    qrels = read_qrels(folder / "qrels" / "train.tsv")
    records = []
    for record in read_jsonl(answers):
        grades = qrels.get(record["query_id"], {})
        labelled = {passage_id for passage_id, grade in grades.items() if grade >= 1}
        comparisons = keep(record.pop("preference_order"), labelled)
        records.append(record | {"comparisons": comparisons})
    return records


def main(folders: list[Path], to: Path) -> None:
    """Write both files, each with the records of all folders."""
    from syntriever.errors import SyntrieverError
    from syntriever.files import write_jsonl
    from syntriever.tables import rows

    known = rows.load(ROOT / "tables").collections
    answers = {}
    for folder in folders:
        recorded = known[folder.name].set.get("teacher.recorded") if folder.name in known else None
        if recorded is None:
            raise SyntrieverError(
                f"{folder}: tables/collections.yaml has no teacher.recorded for {folder.name}."
            )
        answers[folder] = ROOT / recorded
    for keep in (first_choice, below_label):
        records = [one for folder, path in answers.items() for one in kept(folder, path, keep)]
        write_jsonl(to / f"{keep.__name__}.jsonl", records)
        pairs = sum(len(record["comparisons"]) for record in records)
        print(f"{to / keep.__name__}.jsonl: {pairs} comparisons for {len(records)} queries")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Keep a part of the recorded preferences.")
    parser.add_argument("folders", nargs="+", type=Path, help="collections in BEIR's form")
    parser.add_argument("--to", required=True, type=Path, help="the folder to write into")
    chosen = parser.parse_args()
    missing = [f for f in chosen.folders if not (f / "qrels" / "train.tsv").is_file()]
    if missing:
        parser.error(f"{missing[0]} holds no qrels/train.tsv: it has no labels to train on")
    if not chosen.to.is_dir():
        parser.error(f"{chosen.to} is no folder")
    stages.run(lambda: main([f.absolute() for f in chosen.folders], chosen.to.absolute()))
