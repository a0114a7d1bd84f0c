"""Where records come from: files, the hub, or the package's own generators."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ift_lightning.data.adapters import unique_records
from ift_lightning.data.json_stream import OnBad
from ift_lightning.data.sources import (
    find_data_files,
    fingerprint_files,
    read_hub_rows,
    read_rows,
)
from ift_lightning.types import (
    SPLITS,
    InstructionRecord,
    RawRow,
    RowLocation,
    json_fingerprint,
)


class FileSource:
    """Rows of files; validation and test rows may have files of their own.

    Args:
        path: File or folder.
        own_paths: Split to file or folder, for splits that are not drawn from ``path``.
        form: Form of the rows, or "auto".
        fields: Our field to the file's column.
    """

    def __init__(
        self,
        path: Path,
        *,
        own_paths: Mapping[str, Path] | None = None,
        form: str = "auto",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.form = form
        self.fields = dict(fields or {})
        self._files: dict[str | None, list[Path]] = {None: find_data_files(path)}
        for split, own in (own_paths or {}).items():
            self._files[split] = find_data_files(own)
        contents = {str(split): fingerprint_files(files) for split, files in self._files.items()}
        self.fingerprint = json_fingerprint([contents, form, self.fields])

    def records(self, on_bad: OnBad) -> Iterator[tuple[RawRow, InstructionRecord]]:
        """Yield every row with its record."""
        yield from unique_records(self._rows(on_bad), self.form, self.fields, on_bad)

    def _rows(self, on_bad: OnBad) -> Iterator[RawRow]:
        for split, files in self._files.items():
            for row in read_rows(files, on_bad):
                yield row if split is None else dataclasses.replace(row, split=split)


class HubSource:
    """Rows of a hub data set at a revision.

    Args:
        name: Hub data set.
        revision: Commit, tag or branch; rows of a branch are read anew for every run.
        config: Name of the data set's configuration, where it has several.
        split: The hub's own split.
        form: Form of the rows, or "auto".
        fields: Our field to the data set's column.
    """

    def __init__(
        self,
        name: str,
        *,
        revision: str | None,
        config: str | None = None,
        split: str = "train",
        form: str = "auto",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.revision = revision
        self.config = config
        self.split = split
        self.form = form
        self.fields = dict(fields or {})
        is_commit = re.fullmatch("[0-9a-f]{40}", revision or "")
        key = json_fingerprint([name, revision, config, split, form, self.fields])
        self.fingerprint = key if is_commit else ""

    def records(self, on_bad: OnBad) -> Iterator[tuple[RawRow, InstructionRecord]]:
        """Yield every row with its record."""
        rows = read_hub_rows(self.name, self.revision or "main", self.split, config=self.config)
        yield from unique_records(rows, self.form, self.fields, on_bad)


class DrillSource:
    """The package's procedurally generated tasks; their splits share no structure.

    Args:
        sizes: Split to number of records.
        seed: Another seed, other records.
    """

    def __init__(self, sizes: Mapping[str, int], *, seed: int = 0) -> None:
        from ift_lightning.data.drills import DRILLS_VERSION

        self.sizes = dict(sizes)
        self.seed = seed
        self.name = DRILLS_VERSION
        self.fingerprint = json_fingerprint([DRILLS_VERSION, self.sizes, seed])

    def records(self, on_bad: OnBad) -> Iterator[tuple[RawRow, InstructionRecord]]:
        """Yield the records of all splits."""
        for split in SPLITS:
            for index, record in enumerate(self._generate(split, self.sizes.get(split, 0))):
                location = RowLocation(f"{self.name}/{split}", row=index)
                yield RawRow(record.to_json(), location, split=split), record

    def _generate(self, split: str, num_records: int) -> Iterator[InstructionRecord]:
        from ift_lightning.data.drills import generate_drills

        return generate_drills(split, num_records, seed=self.seed)


class DocstringDrillSource(DrillSource):
    """Generated functions to complete from their docstring."""

    def __init__(self, sizes: Mapping[str, int], *, seed: int = 0) -> None:
        super().__init__(sizes, seed=seed)
        self.name += "/docstrings"
        self.fingerprint = json_fingerprint(["docstrings", self.fingerprint])

    def _generate(self, split: str, num_records: int) -> Iterator[InstructionRecord]:
        from ift_lightning.data.drills import generate_docstring_tasks

        return generate_docstring_tasks(split, num_records, seed=self.seed)


class DefectDrillSource(DrillSource):
    """Generated functions with and without a defect, in the defect-judgement form."""

    def __init__(self, sizes: Mapping[str, int], *, seed: int = 0) -> None:
        super().__init__(sizes, seed=seed)
        self.fingerprint = json_fingerprint(["defects", self.fingerprint])

    def records(self, on_bad: OnBad) -> Iterator[tuple[RawRow, InstructionRecord]]:
        """Yield the records of all splits."""
        yield from unique_records(self._rows(), "defect_raw", {}, on_bad)

    def _rows(self) -> Iterator[RawRow]:
        from ift_lightning.data.drills import generate_defects

        for split in SPLITS:
            for index, raw in enumerate(
                generate_defects(split, self.sizes.get(split, 0), seed=self.seed)
            ):
                location = RowLocation(f"{self.name}/defects/{split}", row=index)
                yield RawRow(raw, location, split=split)
