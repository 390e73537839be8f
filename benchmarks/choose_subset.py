"""A small part of CIFAR-100 as Parquet files, for the small demonstration of `choose`.

    python benchmarks/choose_subset.py OUT

The first 10 classes, 200 training pictures and all 100 test pictures of each; from $MLDR_DATA.
Ends with one JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from mldr_deploy.data.root import data_root

CLASSES, PER_CLASS = 10, 200


def main(out: Path) -> None:
    """Write OUT/train.parquet and OUT/test.parquet."""
    root, counts = data_root(None), {}
    out.mkdir(parents=True, exist_ok=True)
    for split, limit in (("train", PER_CLASS), ("test", None)):
        table = pq.read_table([*sorted(root.glob(f"cifar100-{split}*.parquet"))])
        label = next(n for n in ("fine_label", "label") if n in table.column_names)
        image = next(n for n in table.column_names if "label" not in n)
        table = table.select([image, label]).rename_columns(["image", "label"])
        table = table.filter(pc.less(table["label"], CLASSES))
        labels, seen, rows = table["label"].to_pylist(), dict.fromkeys(range(CLASSES), 0), []
        for row, k in enumerate(labels):
            if limit is None or seen[k] < limit:
                rows.append(row)
                seen[k] += 1
        pq.write_table(table.take(rows), out / f"{split}.parquet")
        counts[split] = len(rows)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
