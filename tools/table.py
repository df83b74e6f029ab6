"""Print the tables of scores, made from model cards and records, or fill README.md and docs/ with them.

python tools/table.py                        print them
python tools/table.py --write                fill them in between their markers
python tools/table.py --add outputs/crowdpose_ce_hrhrnet_w32_512/test_test/record_test.json
python tools/table.py --add outputs/…/test_test-dev2017/record_test.json AP 67.0 AP50 88.9 …

--add keeps a test's record in models/records/ if it belongs to a card's row: its options, the whole split. For test-dev
the server gives the scores: write them, in percent, after the record.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError
from coupled_embedding.utils.paths import CHECKOUT
from coupled_embedding.zoo.cards import load_cards
from coupled_embedding.zoo.published import load_published
from coupled_embedding.zoo.records import keep_record, load_records, read_record
from coupled_embedding.zoo.tables import all_tables, fill, mismatches

DOCUMENTS = ("README.md", "docs/reproduce.md", "docs/peers.md")
RECORDS = CHECKOUT / "models/records"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"fill {', '.join(DOCUMENTS)}")
    parser.add_argument("--add", type=Path, metavar="RECORD", help="keep a test's record_test.json")
    parser.add_argument("scores", nargs="*", metavar="NAME PERCENT", help="with --add: scores from a server")
    args = parser.parse_args()
    if args.scores and not args.add:
        parser.error("scores need --add RECORD before them")
    return args


def server_scores(words: list[str]) -> dict[str, float | None]:
    """Return scores given as ``[name, percent, ...]``."""
    try:
        scores = {name: float(text) / 100 for name, text in zip(words[::2], words[1::2], strict=True)}
    except ValueError as error:
        raise UserError(f"expected pairs of NAME PERCENT, such as AP 67.0, got {' '.join(words)}") from error
    if not all(0 <= value <= 1 for value in scores.values()):
        raise UserError(f"scores are in percent, from 0 to 100: {' '.join(words)}")
    return {**scores}


def add(path: Path, words: list[str]) -> None:
    """Keep a record among those that tables are made of."""
    record = read_record(path)
    if words and record.metrics:
        raise UserError(f"{path}: has scores already; give them only for splits that a server scores")
    if words:
        record = replace(record, metrics=server_scores(words), notes="scores from the benchmark's server")
    reasons = mismatches(record, load_cards())
    if not record.metrics:
        reasons.append("the record has no scores; give the server's after it: AP 67.0 AP50 88.9 …")
    if reasons:
        raise UserError(f"{path}: belongs to no row of the tables:\n  " + "\n  ".join(reasons))
    print(f"kept: {keep_record(record, RECORDS)}; now: python tools/table.py --write")


@command
def main() -> None:
    """Keep a record, fill documents, or print."""
    args = parse()
    if args.add:
        add(args.add, args.scores)
        return
    tables = all_tables(load_cards(), load_records(RECORDS), load_published())
    if not args.write:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in tables.items()))
        return
    for name in DOCUMENTS:
        path = CHECKOUT / name
        text = path.read_text(encoding="utf-8")
        filled = fill(text, tables, name)
        if filled != text:
            atomic_write(path, filled, "this document")
        print(f"{name}: {'filled' if filled != text else 'up to date'}")


if __name__ == "__main__":
    main()
