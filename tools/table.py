"""Print the tables of figures, made from model cards and records, or fill README.md and docs/ with them.

python tools/table.py                        print them
python tools/table.py --write                fill them in between their markers
python tools/table.py --add outputs/crowdpose_ce_hrhrnet_w32_512/test_test/record_test.json
python tools/table.py --add outputs/…/test_test-dev2017/record_test.json AP 67.0 AP50 88.9 …

--add keeps a test's record in models/records/ if it is of a card's row: its options, the whole split. For test-dev the
figures, in percent, come from the server's answer and stand behind.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from coupled_embedding.utils.atomic import write_whole
from coupled_embedding.utils.cli import command
from coupled_embedding.utils.errors import UserError
from coupled_embedding.utils.paths import CHECKOUT
from coupled_embedding.zoo.cards import load_cards
from coupled_embedding.zoo.records import keep_record, load_records, read_record
from coupled_embedding.zoo.tables import all_tables, fill, misfits

DOCUMENTS = ("README.md", "docs/reproduce.md")
RECORDS = CHECKOUT / "models/records"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"fill {' and '.join(DOCUMENTS)}")
    parser.add_argument("--add", type=Path, metavar="RECORD", help="keep a test's record_test.json")
    parser.add_argument("figures", nargs="*", metavar="NAME PERCENT", help="with --add: figures that a server gave")
    args = parser.parse_args()
    if args.figures and not args.add:
        parser.error("figures stand behind --add RECORD")
    return args


def server_figures(words: list[str]) -> dict[str, float | None]:
    """Return figures given as ``[name, percent, ...]``."""
    try:
        pairs = zip(words[::2], words[1::2], strict=True)
        figures: dict[str, float | None] = {name: float(text) / 100 for name, text in pairs}
    except ValueError as error:
        raise UserError(f"expected pairs of NAME PERCENT, such as AP 67.0, got {' '.join(words)}") from error
    if not all(value is not None and 0 <= value <= 1 for value in figures.values()):
        raise UserError(f"figures are in percent, from 0 to 100: {' '.join(words)}")
    return figures


def add(path: Path, words: list[str]) -> None:
    """Keep a record among those that tables are made of."""
    record = read_record(path)
    if words and record.figures:
        raise UserError(f"{path}: has figures already; they are given only for splits that a server scores")
    if words:
        record = replace(record, figures=server_figures(words), notes="figures from the benchmark's server")
    reasons = misfits(record, load_cards())
    if not record.figures:
        reasons.append("it has no figures; give the server's behind it: AP 67.0 AP50 88.9 …")
    if reasons:
        raise UserError(f"{path}: is no row of the tables:\n  " + "\n  ".join(reasons))
    print(f"kept: {keep_record(record, RECORDS)}; now: python tools/table.py --write")


@command
def main() -> None:
    """Keep a record, fill documents, or print."""
    args = parse()
    if args.add:
        add(args.add, args.figures)
        return
    tables = all_tables(load_cards(), load_records(RECORDS))
    if not args.write:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in tables.items()))
        return
    for name in DOCUMENTS:
        path = CHECKOUT / name
        text = path.read_text(encoding="utf-8")
        filled = fill(text, tables, name)
        if filled != text:
            write_whole(path, filled, "this document")
        print(f"{name}: {'filled' if filled != text else 'up to date'}")


if __name__ == "__main__":
    main()
