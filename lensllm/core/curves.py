"""The tidy table of learning curves: its schema, its checks, and CSV in and out.

A *curve* is the test loss of one model on one data set as the number of fine-tuning samples
grows. All of lensllm passes curves around as one pandas table with one row per measured point and
at least the columns of `REQUIRED_COLUMNS`:

| column | meaning |
|---|---|
| `model` | name of the candidate |
| `dataset` | name of the data set |
| `n_samples` | fine-tuning samples D; 0 is the pre-trained model itself |
| `seed` | seed of the run (0 where a source has only one) |
| `test_loss` | cross-entropy per target token in nats |

Optional columns, used if they are present: `test_loss_per_byte`, `n_params`,
`family`, `n_tokens`, `flops`, `seconds`, `status`.

The *wide* layout is the one of the Rectified Scaling Law benchmark (Lin et al., ICML 2024,
arXiv:2402.02314): one file per data set, one row per model, one column per size, and optionally
`size` (parameters) and `family`.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lensllm.system.harmless import csv_name

logger = logging.getLogger(__name__)

MAX_WHOLE = 10**15  # largest size or seed; a float represents whole numbers up to it exactly

REQUIRED_COLUMNS = ("model", "dataset", "n_samples", "seed", "test_loss")
_NAME_HEADERS = ("config name", "model", "name")
_MISSING_CELLS = ("", "na", "nan", "none", "null")
_CAPITALS = ("NA", "NaN", "None", "NULL", "N/A")


def check_curves(curves: pd.DataFrame, source: str = "the table of curves") -> pd.DataFrame:
    """Check a tidy table of curves and return it with canonical column types.

    Args:
        curves: One row per measured point, with the columns of `REQUIRED_COLUMNS`.
        source: What to call the table in an error message.

    Returns:
        A copy, sorted by data set, model, seed and size, with a fresh index.

    Raises:
        ValueError: A column is missing, a size is not a whole number ≥ 0, a loss is not finite and
            positive, or a point occurs twice. The message names the row and the value.
    """
    absent = [name for name in REQUIRED_COLUMNS if name not in curves.columns]
    if absent:
        raise ValueError(
            f"Expected the columns {', '.join(REQUIRED_COLUMNS)} in {source}, "
            f"missing {', '.join(absent)}; found {', '.join(map(str, curves.columns))}"
        )
    table = curves.copy()
    for name in ("n_samples", "seed", "test_loss"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        bad = numbers.isna() & (table[name].astype(str).str.strip().str.lower() != "inf")
        if bad.any():
            row = int(np.flatnonzero(bad.to_numpy())[0])
            raise ValueError(
                f"Expected a number in column {name!r} of {source}, "
                f"got {_shown(table[name].iloc[row])} in row {row + 1}"
            )
        table[name] = numbers
    for name in ("model", "dataset"):
        bad = table[name].isna() | (table[name].astype(str).str.strip() == "")
        if bad.any():
            row = int(np.flatnonzero(bad.to_numpy())[0])
            raise ValueError(
                f"Expected a name in column {name!r} of {source}, "
                f"got {_shown(table[name].iloc[row])} in row {row + 1}"
            )
    for name in ("n_samples", "seed"):
        bad = (table[name] < 0) | (table[name] % 1 != 0)
        if bad.any():
            row = int(np.flatnonzero(bad.to_numpy())[0])
            raise ValueError(
                f"Expected `{name}` to be a whole number >= 0, got {table[name].iloc[row]:g} "
                f"in row {row + 1} of {source}"
            )
        if (table[name] > MAX_WHOLE).any():
            row = int(np.flatnonzero((table[name] > MAX_WHOLE).to_numpy())[0])
            raise ValueError(
                f"Expected `{name}` of at most {MAX_WHOLE:.0e}, got {table[name].iloc[row]:g} in "
                f"row {row + 1} of {source}"
            )
        table[name] = table[name].astype(np.int64)
    bad = ~(np.isfinite(table["test_loss"]) & (table["test_loss"] > 0))
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        raise ValueError(
            f"Expected `test_loss` to be finite and > 0, got {table['test_loss'].iloc[row]:g} for "
            f"model {table['model'].iloc[row]!r} at n_samples = {table['n_samples'].iloc[row]} "
            f"in {source}"
        )
    keys = ["dataset", "model", "seed", "n_samples"]
    twice = table.duplicated(keys)
    if twice.any():
        row = table[twice].iloc[0]
        raise ValueError(
            f"Expected one point per data set, model, seed and size in {source}, got "
            f"{row['dataset']!r}, {row['model']!r}, seed {row['seed']}, "
            f"n_samples = {row['n_samples']} twice"
        )
    return table.sort_values(keys, kind="stable").reset_index(drop=True)


def _shown(value: object) -> str:
    """A cell as shown in an error message: NumPy scalars without their type."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def read_wide_csv(
    path: str | Path, dataset: str | None = None, *, allow_missing: bool = False
) -> pd.DataFrame:
    """Read one data set's curves from the wide layout.

    The first column (`config name`, `model` or `name`) holds the model. Each whole-number header is
    a size D; `size` holds the number of parameters and `family` the model family. These two columns
    and D = 0 are optional.

    Args:
        path: The CSV file; a byte-order mark and CRLF line ends are fine.
        dataset: Name of the data set; the file's stem by default.
        allow_missing: Skip empty cells instead of raising an error.

    Returns:
        A tidy table with the columns of `REQUIRED_COLUMNS`, and `n_params`, `family` if given.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A header or a cell is wrong; the message names row, column and value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a CSV file of curves, found no file at {path}")
    rows = _csv_rows(path)
    if len(rows) < 2:
        raise ValueError(
            f"Expected a header and at least one model in {path}, got {len(rows)} rows"
        )
    header = [cell.strip() for cell in rows[0][1]]
    if header[0].lower() not in _NAME_HEADERS:
        raise ValueError(
            f"Expected the first column of {path} to be one of {', '.join(_NAME_HEADERS)}, "
            f"got {header[0]!r}"
        )
    sizes = _size_columns(header, path)
    records: list[dict[str, object]] = []
    seen: set[str] = set()
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"Expected {len(header)} cells in row {number} of {path}, got {len(row)}"
            )
        cells = [cell.strip() for cell in row]
        model = csv_name(cells[0])
        if not model:
            raise ValueError(f"Expected a model name in row {number} of {path}, got an empty cell")
        if model in seen:
            raise ValueError(
                f"Expected each model once in {path}, got {model!r} again in row {number}"
            )
        seen.add(model)
        extra: dict[str, object] = {}
        if "size" in header:
            cell = cells[header.index("size")]
            extra["n_params"] = _number(cell, "size", number, path) if cell else math.nan
        if "family" in header:
            extra["family"] = cells[header.index("family")]
        for column, n_samples in sizes.items():
            cell = cells[column]
            if cell.lower() in _MISSING_CELLS:
                if allow_missing:
                    continue
                raise ValueError(
                    f"Expected a loss in row {number} ({model}), column {header[column]!r} "
                    f"of {path}, got {cell!r}: allow missing cells, or fill it in"
                )
            records.append(
                {
                    "model": model,
                    "dataset": dataset or path.stem,
                    "n_samples": n_samples,
                    "seed": 0,
                    "test_loss": _number(cell, header[column], number, path),
                    **extra,
                }
            )
    if not records:
        raise ValueError(f"Expected at least one loss in {path}, got only missing cells")
    for size in sorted(set(sizes.values()) - {record["n_samples"] for record in records}):
        logger.warning("No model has a loss at n_samples = %s in %s: left out", size, path)
    return check_curves(pd.DataFrame.from_records(records), source=str(path))


def _csv_rows(path: Path, comment: str = "") -> list[tuple[int, list[str]]]:
    """(line number, cells) of the rows that are not blank and do not start with `comment`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            return [
                (reader.line_num, row)
                for row in reader
                if any(cell.strip() for cell in row)
                and not (comment and row[0].startswith(comment))
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"Expected UTF-8 text with commas in {path}, got {error}") from error


def _tidy_table(path: Path, header: list[str]) -> pd.DataFrame:
    """The cells of a tidy CSV without its comments; names as they were before `csv_cell`."""
    # Not pandas' own comments, which would cut every line at a `#` in a name. A line that starts
    # with `#` and has as many cells as the header is a row whose model's name starts with it.
    with path.open(encoding="utf-8-sig", newline="") as stream:
        text = "".join(
            line
            for line in stream
            if not line.startswith("#") or len(next(csv.reader([line]))) == len(header)
        )
    numbers = [name for name in header if name not in ("model", "dataset")]
    try:
        table = pd.read_csv(
            io.StringIO(text, newline=""),
            dtype={"model": str, "dataset": str},
            keep_default_na=False,
            na_values={name: [*_MISSING_CELLS, *_CAPITALS] for name in numbers},
        )
    except pd.errors.ParserError as error:
        raise ValueError(f"Expected as many cells as columns in {path}, got: {error}") from error
    for name in {"model", "dataset"}.intersection(table.columns):
        table[name] = table[name].map(csv_name)
    return table


def _size_columns(header: list[str], path: Path) -> dict[int, int]:
    """Map column positions to sizes D, checked to be whole, distinct and ascending."""
    sizes: dict[int, int] = {}
    for name in ("size", "family"):
        if header.count(name) > 1:
            raise ValueError(
                f"Expected the column {name!r} once in the header of {path}, "
                f"got it {header.count(name)} times"
            )
    for position, name in enumerate(header):
        if position == 0 or name in ("size", "family"):
            continue
        if not (name.isascii() and name.isdigit()):
            raise ValueError(
                f"Expected the header of column {position + 1} in {path} to be a number of "
                f"samples, 'size' or 'family', got {name!r}"
            )
        if len(name) > 15:
            raise ValueError(
                f"Expected sizes of at most {MAX_WHOLE:.0e} in the header of {path}, got {name}"
            )
        if int(name) in sizes.values():
            raise ValueError(f"Expected each size once in the header of {path}, got {name} twice")
        if sizes and int(name) < max(sizes.values()):
            raise ValueError(
                f"Expected ascending sizes in the header of {path}, "
                f"got {name} after {max(sizes.values())}"
            )
        sizes[position] = int(name)
    if not sizes:
        raise ValueError(f"Expected columns of sizes (0, 200, 400, ...) in {path}, got {header}")
    return sizes


def _number(cell: str, column: str, row: int, path: Path) -> float:
    """Parse one cell as a finite number > 0."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"Expected a finite number > 0 in row {row}, column {column!r} of {path}, got {cell!r}"
        )
    return value


def read_curves(path: str | Path, *, allow_missing: bool = False, **told: Any) -> pd.DataFrame:
    """Read curves from a tidy CSV, a wide CSV, a folder of wide CSVs, a trial store, or past runs.

    Args:
        path: The file or folder, or the URL of an Optuna storage. The layout is detected from the
            header or the contents. Lines of a tidy CSV that start with `#` and do not have as many
            cells as the header are comments; its diverged runs are skipped. Past runs are training
            runs of other programs: `trainer_state.json`, W&B, Lightning, Optuna
            (docs/past_runs.md).
        allow_missing: Skip points without a loss instead of raising an error.
        **told: Values that past runs do not record: options of
            `lensllm.core.past_runs.PastRunOptions`, such as `dataset_name="docs"`.

    Returns:
        A tidy, checked table of curves.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: The path holds no curves, or bad values.
    """
    if told or _is_past_run(path):
        return _read_past_runs(path, told)
    path = Path(path).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.csv"))
        if files:
            tables = [read_wide_csv(file, allow_missing=allow_missing) for file in files]
            return check_curves(pd.concat(tables, ignore_index=True), source=str(path))
        from lensllm.core.trials import TrialStore

        table = TrialStore(path).curves()
        if table.empty:
            raise ValueError(
                f"Expected CSV files or finished trials in {path}, found neither, nor past runs"
            )
        table = table.dropna(subset=["test_loss"])
        twice = table[table.duplicated(["dataset", "model", "seed", "n_samples"])]
        if len(twice):
            row = twice.iloc[0]
            raise ValueError(
                f"Expected trials of one training recipe in {path}, got several of "
                f"{row['model']!r} on {row['dataset']!r} at n_samples = {row['n_samples']} (seed "
                f"{row['seed']}): keep each recipe in its own store with paths.store_dir=FOLDER"
            )
        return check_curves(table, source=str(path))
    if not path.is_file():
        raise FileNotFoundError(f"Expected a CSV file or folder of curves, found nothing at {path}")
    rows = _csv_rows(path, comment="#")
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    if "n_samples" not in header:
        return read_wide_csv(path, allow_missing=allow_missing)
    table = _tidy_table(path, header)
    if "status" in table.columns:
        table = table[~table["status"].isin(("diverged", "timed_out"))].reset_index(drop=True)
    if allow_missing and "test_loss" in table.columns:
        table = table.dropna(subset=["test_loss"])
    if "dataset" not in table.columns:
        table["dataset"] = path.stem
    if "seed" not in table.columns:
        table["seed"] = 0
    return check_curves(table, source=str(path))


def _is_past_run(path: str | Path) -> bool:
    """Whether a path holds training runs of another program."""
    from lensllm.core.past_runs import is_lightning_csv, is_trial_store, recognise

    folder = Path(path)
    if folder.is_dir():
        wide = any(not is_lightning_csv(file) for file in folder.glob("*.csv"))
        if wide or is_trial_store(folder):
            return False
    return recognise(path) is not None


def _read_past_runs(path: str | Path, told: Mapping[str, Any]) -> pd.DataFrame:
    """Curves of past runs; remarks about them are given as warnings."""
    from lensllm.core.past_runs import PastRunOptions, curves_of, read_past_runs, remarks, take

    options = PastRunOptions(**told)
    taken = take(read_past_runs(path, options.source), options)
    curves = check_curves(curves_of(taken, str(path)), source=str(path))
    for text in remarks(taken):
        logger.warning("Run %s", text)
    return curves
